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
    const words = await work();
    if (words || $("status").textContent === TEXTS.working) say(words || ""); // what was said meanwhile stays
  } catch (error) {
    say(error.message, true);
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

// Run long work without keeping the page busy; the button waits for it.
async function aside(button, work) {
  button.disabled = true;
  say("");
  try {
    say((await work()) || "");
  } catch (error) {
    say(error.message, true);
  } finally {
    button.disabled = false;
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
  $("known").hidden = !names.length;
  const kept = chosen || new URLSearchParams(location.hash.slice(1)).get("recognizer");
  await open(names.includes(kept) ? kept : names[0] || null);
  const { disk } = await json("health");
  $("disk").hidden = !disk.warning;
  $("disk").textContent = disk.warning || "";
}

async function open(name) {
  stopLive();
  state.name = name;
  $("work").hidden = !name;
  if (!name) return;
  $("recognizer").value = name;
  history.replaceState(null, "", `#recognizer=${encodeURIComponent(name)}`);
  $("place").textContent = TEXTS.place(name);
  $("answer").hidden = true;
  $("checked").hidden = true;
  $("rebuilt").textContent = "";
  state.answers = [];
  $("answers").disabled = true;
  show(await json(at()));
}

// ---------------------------------------------------------------- camera

async function camera() {
  if (state.stream) {
    stopLive();
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

// ---------------------------------------------------------------- beginning

function connect() {
  const on = (id, event, work) => $(id).addEventListener(event, (what) => { what.preventDefault?.(); work(what); });
  on("new", "submit", () => attempt(async () => {
    const name = $("new-name").value.trim();
    await ask(`recognizers/${encodeURIComponent(name)}`, { method: "PUT" });
    $("new-name").value = "";
    await list(name);
    $("camera-on").focus();
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
  on("live", "click", () => attempt(async () => (live.name ? stopLive() : startLive())));
  on("live-keep", "submit", () => attempt(keepLive));
  on("undo", "click", () => attempt(async () => {
    const { state: seen } = state.described;
    try {
      show(await json(`${at("undo")}?state=${seen}`, { method: "POST" }));
    } catch (error) {
      show(await json(at())); // it was changed elsewhere
      throw error;
    }
  }));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && state.name) json(at()).then(show).catch(() => {}); // another window may have changed it
  });
  on("check-now", "click", () => attempt(check));
  on("rebuild", "click", () => aside($("rebuild"), rebuild));
  on("other", "toggle", () => { if ($("other").open && !$("method").length) attempt(offerChoices); });
  on("next-now", "click", () => attempt(async () => {
    const words = await check();
    $("next").scrollIntoView({ block: "center" });
    return words;
  }));
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
