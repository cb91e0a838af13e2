"use strict";
// The answer for a video: probabilities, why, corrections, and when it happens.

async function predict(body, name) {
  const answer = await json(`${at("predict")}?nearest=1&pairs=true`, { method: "POST", body });
  state.last = { body, answer };
  state.answers.push({ name, ...answer });
  $("answers").disabled = false;
  const bars = element("div", { className: "bars" });
  updateBars(bars, answer.probabilities);
  const mine = player(TEXTS.yourVideo);
  mine.autoplay = !calm.matches;
  mine.src = URL.createObjectURL(body);
  const pair = element("div", { className: "pair" }, element("figure", {}, mine, element("figcaption", { textContent: TEXTS.yourVideo })));
  for (const near of answer.nearest) {
    const video = player(TEXTS.nearest(near.action));
    video.autoplay = !calm.matches;
    pair.append(element("figure", {}, video, element("figcaption", { textContent: TEXTS.nearest(near.action) })));
    load(video, near.action, near.video);
  }
  const parts = [aligned(answer), corrections(answer), moments(body, mine), trimmer(body, mine)];
  $("answer").replaceChildren(element("p", { id: "best", className: "best", textContent: best(answer) }), bars, pair, ...parts);
  $("best").classList.toggle("unknown", answer.action === "unknown");
  $("answer").hidden = false;
  return best(answer);
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");

function best({ action, probabilities }) {
  return action === "unknown" ? TEXTS.unknown : TEXTS.answer(action, percent(probabilities[action]));
}

// Show probabilities; a bar that is there already only moves.
function updateBars(bars, probabilities) {
  const names = Object.keys(probabilities);
  if (!bars.children.length || bars.dataset.names !== names.join("\n")) {
    bars.dataset.names = names.join("\n");
    bars.replaceChildren(...names.flatMap((name) => [
      element("span", { textContent: name, className: "name" }),
      element("meter", { ariaLabel: name }),
      element("span", { className: "share" }),
    ]));
  }
  names.forEach((name, i) => {
    bars.children[3 * i + 1].value = probabilities[name];
    bars.children[3 * i + 2].textContent = percent(probabilities[name]);
  });
}

// Frames of the video, each above the most similar frame of the nearest example.
function aligned({ pairs, nearest }) {
  if (!pairs.length) return "";
  const columns = pairs.map((sources, i) => {
    const words = [TEXTS.frame(i + 1), TEXTS.likeFrame(nearest[0].action)];
    return element("div", {}, ...sources.map((src, j) => element("img", { src, alt: words[j] })));
  });
  const row = element("div", { className: "aligned" }, ...columns);
  return element("div", {}, element("h3", { textContent: TEXTS.why }), element("p", { className: "hint", textContent: TEXTS.aligned }), row);
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
  const { effect } = await json(at("actions", action, "correct"), { method: "POST", body });
  show(await json(at()));
  await predict(body, answer.video);
  $("best").after(effectOf(effect));
  return TEXTS.corrected(action, shown(answer.action), shown(state.last.answer.action));
}

// When which action happens; each moment is a button that plays it.
function moments(body, video) {
  const button = element("button", { textContent: TEXTS.timeline });
  const found = element("div", { className: "moments" });
  button.addEventListener("click", () => aside(button, async () => {
    const { segments } = await follow(TEXTS.timeline, json(`${at("timeline")}?task=true`, { method: "POST", body }));
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
