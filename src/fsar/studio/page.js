"use strict";
// What the page does. All words are in texts.js; all work is done by the service at this address.
const $ = (id) => document.getElementById(id);
const PRESSED = 400;   // milliseconds; a shorter press starts the countdown
const COUNTDOWN = 3;   // seconds
const RECORDED = 2500; // milliseconds, after a countdown
const state = { name: null, described: null, stream: null, answers: [], last: null };

// ---------------------------------------------------------------- the service

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(`v1/${path}`, { ...options, headers });
  } catch {
    throw new Error(TEXTS.offline);
  }
  if (response.status === 429 || response.status === 503) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * (response.headers.get("Retry-After") || 1)));
    return ask(path, options);
  }
  if (response.status === 401) $("token-form").hidden = false;
  if (!response.ok) throw new Error((await response.json()).detail);
  return response;
}
const json = async (path, options) => (await ask(path, options)).json();
const at = (...parts) => ["recognizers", state.name, ...parts].map(encodeURIComponent).join("/");
const clipAt = (action, clip, ...more) =>
  [at("actions", action, "examples"), ...clip.split("/").map(encodeURIComponent), ...more].join("/");

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

// Run something that may fail; show its error.
async function attempt(work) {
  say(TEXTS.working);
  document.body.setAttribute("aria-busy", "true");
  try {
    say((await work()) || "");
  } catch (error) {
    say(error.message, true);
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

// ---------------------------------------------------------------- parts of the page

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function player(label) {
  const video = element("video", { muted: true, loop: true, playsInline: true, controls: true, preload: "metadata" });
  video.setAttribute("aria-label", label);
  return video;
}

function write() {
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = TEXTS[each.dataset.text];
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", TEXTS[each.dataset.label]);
  for (const each of document.querySelectorAll("[data-hint]")) each.placeholder = TEXTS[each.dataset.hint];
}

const percent = (share) => `${Math.round(100 * share)}%`;
const shown = (action) => (action === "unknown" ? TEXTS.unknown : action);

// ---------------------------------------------------------------- recognisers

async function list(chosen) {
  const names = await json("recognizers");
  $("recognizer").replaceChildren(...names.map((name) => element("option", { value: name, textContent: name })));
  const kept = chosen || new URLSearchParams(location.hash.slice(1)).get("recognizer");
  await open(names.includes(kept) ? kept : names[0] || null);
  const { disk } = await json("health");
  $("disk").hidden = !disk.warning;
  $("disk").textContent = disk.warning || "";
}

async function open(name) {
  state.name = name;
  $("work").hidden = !name;
  if (!name) return;
  $("recognizer").value = name;
  history.replaceState(null, "", `#recognizer=${encodeURIComponent(name)}`);
  $("place").textContent = TEXTS.place(name);
  $("answer").hidden = true;
  $("findings").replaceChildren();
  state.answers = [];
  $("answers").disabled = true;
  show(await json(at()));
}

// ---------------------------------------------------------------- examples

function groups() {
  const { actions, background } = state.described;
  return Object.entries(actions).concat(background.length ? [["background", background]] : []);
}

function show(described) {
  state.described = described;
  $("undo").disabled = !described.undo;
  const { expected } = described;
  $("expected").textContent = expected ? TEXTS.expected(...expected.map(percent)) : described.lacking || described.fit;
  const names = groups().map(([action]) => action);
  $("actions").replaceChildren(...names.map((name) => element("option", { value: name })));
  const kept = new Map([...document.querySelectorAll("#gallery figure")].map((each) => [each.dataset.key, each]));
  $("gallery").replaceChildren(...(names.length ? groups().map((group) => shelf(group, kept)) : [TEXTS.none]));
}

function shelf([action, clips], kept) {
  const title = action === "background" ? TEXTS.background : action;
  const heading = element("h3", { textContent: `${title} (${clips.length})` });
  const figures = clips.map((clip, i) => kept.get(`${action}/${clip}/${i + 1}`) || figure(action, clip, i + 1));
  return element("div", {}, heading, element("div", { className: "clips" }, ...figures));
}

function figure(action, clip, number) {
  const name = TEXTS.example(action, number);
  const video = player(name);
  const move = element("select", { ariaLabel: `${TEXTS.move}: ${name}` });
  move.append(element("option", { textContent: TEXTS.move, value: "" }));
  move.addEventListener("focus", () => {
    const others = groups().map(([other]) => other).filter((other) => other !== action);
    move.replaceChildren(move.firstChild, ...others.map((other) => element("option", { textContent: other, value: other })));
  });
  move.addEventListener("change", () => attempt(async () => {
    show(await json(`${clipAt(action, clip)}?to=${encodeURIComponent(move.value)}`, { method: "PATCH" }));
  }));
  const remove = element("button", { textContent: TEXTS.remove, ariaLabel: `${TEXTS.remove}: ${name}` });
  remove.addEventListener("click", () => attempt(async () => show(await json(clipAt(action, clip), { method: "DELETE" }))));
  const made = element("figure", {}, video, move, remove);
  made.dataset.key = `${action}/${clip}/${number}`;
  whenSeen(made, () => load(video, action, clip));
  return made;
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((each) => each.isIntersecting)) {
    seen.unobserve(entry.target);
    entry.target.loadPreview();
  }
});
function whenSeen(target, work) {
  target.loadPreview = work;
  seen.observe(target);
}

async function load(video, action, clip) {
  if (state.described.absent.includes(clip)) {
    video.replaceWith(element("p", { className: "hint", textContent: TEXTS.absent }));
    return;
  }
  const path = `${at("actions", action, "previews")}/${clip.split("/").map(encodeURIComponent).join("/")}`;
  try {
    video.src = URL.createObjectURL(await (await ask(path)).blob());
  } catch (error) {
    video.title = error.message;
  }
}

async function enrol(action, bodies, query) {
  let added = 0, words = "";
  for (const body of bodies) {
    const made = await json(at("actions", action, "examples") + query, { method: "POST", body });
    added += made.added;
    words = made.added ? (made.fault ? ` ${TEXTS.fault(made.fault)}` : words) : ` ${TEXTS.known}`;
    show(await json(at()));
  }
  return TEXTS.enrolled(added, action) + words;
}

function collect(bodies, query = "") {
  const action = $("action").value.trim();
  if (!action) {
    say(TEXTS.noAction, true);
    $("action").focus();
    return;
  }
  attempt(() => enrol(action, bodies, query));
}

// ---------------------------------------------------------------- camera

async function camera() {
  if (state.stream) {
    for (const track of state.stream.getTracks()) track.stop();
    state.stream = null;
  } else {
    try {
      state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
    } catch {
      say(TEXTS.noCamera, true);
    }
  }
  const on = Boolean(state.stream);
  $("camera").hidden = !on;
  $("camera").srcObject = state.stream;
  if (on) await $("camera").play();
  $("camera-on").textContent = on ? TEXTS.cameraOff : TEXTS.camera;
  for (const id of ["record", "record-try"]) $(id).disabled = !on;
}

function recorder() {
  const kind = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find((each) => MediaRecorder.isTypeSupported(each));
  const made = new MediaRecorder(state.stream, { mimeType: kind });
  const parts = [];
  made.addEventListener("dataavailable", (event) => parts.push(event.data));
  made.whole = new Promise((resolve) => made.addEventListener("stop", () => resolve(new Blob(parts))));
  return made;
}

// A button, or its key, that records while it is held; a short press counts down and then records for a while.
function recording(button, done) {
  let held = null;
  const begin = (event) => {
    if (held || button.disabled || (event.key && ![" ", "Enter"].includes(event.key))) return;
    event.preventDefault();
    held = { made: recorder(), since: performance.now(), counting: false };
    held.made.start();
    button.classList.add("recording");
    button.textContent = TEXTS.recording;
  };
  const end = async (event) => {
    if (!held || held.counting || (event.key && ![" ", "Enter"].includes(event.key))) return;
    event.preventDefault();
    if (performance.now() - held.since < PRESSED) {
      held.counting = true;
      held.made.stop();
      button.classList.remove("recording");
      await count();
      held.made = recorder();
      held.made.start();
      button.classList.add("recording");
      await new Promise((resolve) => setTimeout(resolve, RECORDED));
    }
    const { made } = held;
    made.stop();
    button.classList.remove("recording");
    button.textContent = TEXTS[button.dataset.text];
    held = null;
    const clip = await made.whole;
    if (clip.size) done(clip);
    else say(TEXTS.tooShort, true);
  };
  button.addEventListener("pointerdown", begin);
  button.addEventListener("keydown", begin);
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, end);
  button.addEventListener("keyup", end);
}

async function count() {
  $("countdown").hidden = false;
  for (let left = COUNTDOWN; left; left -= 1) {
    $("countdown").textContent = left;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  $("countdown").hidden = true;
}

// ---------------------------------------------------------------- answers

async function predict(body, name) {
  const answer = await json(`${at("predict")}?nearest=1`, { method: "POST", body });
  state.last = { body, answer };
  state.answers.push({ name, ...answer });
  $("answers").disabled = false;
  const best = answer.action === "unknown" ? TEXTS.unknown : TEXTS.answer(answer.action, percent(answer.probabilities[answer.action]));
  const bars = element("div", { className: "bars" });
  for (const [action, share] of Object.entries(answer.probabilities)) {
    const label = shown(action);
    const meter = element("meter", { value: share, ariaLabel: label });
    bars.append(element("span", { textContent: label }), meter, element("span", { textContent: percent(share) }));
  }
  const mine = player(TEXTS.yourVideo);
  mine.src = URL.createObjectURL(body);
  const pair = element("div", { className: "pair" }, element("figure", {}, mine, element("figcaption", { textContent: TEXTS.yourVideo })));
  for (const near of answer.nearest) {
    const video = player(TEXTS.nearest(near.action));
    pair.append(element("figure", {}, video, element("figcaption", { textContent: TEXTS.nearest(near.action) })));
    load(video, near.action, near.video);
  }
  const parts = [corrections(answer), moments(body, mine), trimmer(body, mine)];
  $("answer").replaceChildren(element("p", { id: "best", textContent: best }), bars, pair, ...parts);
  $("answer").hidden = false;
  return best;
}

function corrections(answer) {
  const row = element("div", { className: "row" }, element("span", { textContent: TEXTS.wrong }));
  const names = groups().map(([action]) => action);
  for (const action of names.filter((each) => each !== answer.action)) {
    const button = element("button", { textContent: action });
    button.addEventListener("click", () => attempt(() => correct(action)));
    row.append(button);
  }
  const other = element("input", { ariaLabel: TEXTS.other, placeholder: TEXTS.other, maxLength: 80 });
  const form = element("form", { className: "row" }, other, element("button", { textContent: TEXTS.create }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (other.value.trim()) attempt(() => correct(other.value.trim()));
  });
  row.append(form);
  return row;
}

async function correct(action) {
  const { body, answer } = state.last;
  await json(at("actions", action, "correct"), { method: "POST", body });
  show(await json(at()));
  await predict(body, answer.video);
  return TEXTS.corrected(action, shown(answer.action), shown(state.last.answer.action));
}

// When which action happens; each moment is a button that plays it.
function moments(body, video) {
  const button = element("button", { textContent: TEXTS.timeline });
  const found = element("div", { className: "moments" });
  button.addEventListener("click", () => attempt(async () => {
    const { segments } = await json(at("timeline"), { method: "POST", body });
    found.replaceChildren(...segments.map(({ action, start, end, probability }) => {
      const text = TEXTS.segment(action, start.toFixed(1), end.toFixed(1), percent(probability));
      const seek = element("button", { textContent: text });
      seek.addEventListener("click", () => play(video, start, end));
      return seek;
    }));
    return TEXTS.found(segments.length);
  }));
  return element("div", {}, button, found);
}

function play(video, start, end) {
  video.currentTime = start;
  video.ontimeupdate = () => { if (video.currentTime >= end) { video.pause(); video.ontimeupdate = null; } };
  video.play();
}

// A part of the video, from one second to another, becomes an example of the action that is written above.
function trimmer(body, video) {
  const ends = [TEXTS.from, TEXTS.to].map((text) => {
    const input = element("input", { type: "number", min: 0, step: 0.1, value: 0 });
    const now = element("button", { textContent: TEXTS.here, ariaLabel: `${text}: ${TEXTS.here}` });
    now.addEventListener("click", () => { input.value = video.currentTime.toFixed(1); });
    return { input, parts: [element("label", {}, element("span", { textContent: text }), input), now] };
  });
  video.addEventListener("loadedmetadata", () => {
    if (Number.isFinite(video.duration)) ends[1].input.value = video.duration.toFixed(1);
  });
  const add = element("button", { textContent: TEXTS.add });
  add.addEventListener("click", () => collect([body], `?start=${ends[0].input.value}&end=${ends[1].input.value}`));
  const row = element("div", { className: "row" }, ...ends.flatMap((each) => each.parts), add);
  return element("details", {}, element("summary", { textContent: TEXTS.part }), row);
}

function table() {
  const cell = (value) => `"${String(value ?? "").replaceAll('"', '""').replace(/^[=+@-]/, "'$&")}"`;
  const head = ["video", "action", "best", "probability", "unknown"];
  const rows = state.answers.map((each) =>
    [each.name, each.action, each.best, each.probabilities[each.best], each.unknown].map(cell).join(","));
  return [head.join(","), ...rows, ""].join("\n");
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---------------------------------------------------------------- checks

async function check() {
  const found = await json(at("check"));
  const lines = found.findings.length ? [...found.findings] : [TEXTS.fine];
  for (const [number, share] of Object.entries(found.curve)) lines.push(TEXTS.curve(number, percent(share)));
  if (found.wanted) lines.push(TEXTS.wanted(found.wanted));
  $("findings").replaceChildren(...lines.map((line) => element("li", { textContent: line })));
}

// ---------------------------------------------------------------- beginning

function connect() {
  const on = (id, event, work) => $(id).addEventListener(event, (what) => { what.preventDefault?.(); work(what); });
  on("new", "submit", () => attempt(async () => {
    const name = $("new-name").value.trim();
    await ask(`recognizers/${encodeURIComponent(name)}`, { method: "PUT" });
    $("new-name").value = "";
    await list(name);
  }));
  on("token-form", "submit", () => attempt(async () => {
    sessionStorage.setItem("token", $("token").value);
    $("token-form").hidden = true;
    await list();
  }));
  on("recognizer", "change", () => attempt(() => open($("recognizer").value)));
  on("camera-on", "click", camera);
  const chosen = (id, work) => on(id, "change", () => {
    const files = [...$(id).files];
    if (files.length) work(files);
    $(id).value = "";
  });
  chosen("take", ([body]) => attempt(async () => {
    const name = body.name.replace(/\.fsar$/, "");
    await ask(`recognizers/${encodeURIComponent(name)}/file`, { method: "POST", body });
    await list(name);
  }));
  chosen("upload", collect);
  chosen("try-upload", ([file]) => attempt(() => predict(file, file.name)));
  recording($("record"), (blob) => collect([blob]));
  recording($("record-try"), (blob) => attempt(() => predict(blob, "camera")));
  on("undo", "click", () => attempt(async () => show(await json(at("undo"), { method: "POST" }))));
  on("check-now", "click", () => attempt(check));
  on("download", "click", () => attempt(async () => save(await (await ask(at("file"))).blob(), `${state.name}.fsar`)));
  on("answers", "click", () => save(new Blob([table()], { type: "text/csv" }), `${state.name}.csv`));
  on("delete", "click", () => {
    if (confirm(TEXTS.sure(state.name))) attempt(async () => { await ask(at(), { method: "DELETE" }); await list(); });
  });
  const zone = $("work");
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("dropping"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("dropping"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("dropping");
    collect([...event.dataTransfer.files]);
  });
}

write();
connect();
attempt(list);
