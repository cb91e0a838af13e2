"use strict";
// Trim an example: two handles on a bar, by mouse, touch or the arrow keys; the video shows where they are.
const STEP = 0.05; // seconds

function trimExample(made, video, action, clip, name) {
  if (made.querySelector(".trim")) return;
  const length = video.duration;
  if (!Number.isFinite(length) || length < 2 * STEP) {
    say(TEXTS.noTrim, true);
    return;
  }
  video.pause();
  const [start, end] = [TEXTS.trimStart, TEXTS.trimEnd].map((text, i) => {
    const handle = element("input", { type: "range", min: 0, max: length, step: STEP, value: i ? length : 0 });
    handle.ariaLabel = `${text}: ${name}`;
    return handle;
  });
  const told = element("output", {});
  const bar = element("div", { className: "bar" }, start, end);
  const values = () => [Number(start.value), Math.min(Number(end.value), length)];
  const showEnds = () => {
    const [from, to] = values();
    bar.style.setProperty("--from", `${(100 * from) / length}%`);
    bar.style.setProperty("--to", `${(100 * to) / length}%`);
    told.textContent = TEXTS.trimmed(from.toFixed(2), to.toFixed(2));
    for (const [handle, value] of [[start, from], [end, to]]) handle.setAttribute("aria-valuetext", `${value.toFixed(2)} s`);
  };
  start.addEventListener("input", () => {
    start.value = Math.min(Number(start.value), Number(end.value) - 2 * STEP);
    video.currentTime = Number(start.value);
    showEnds();
  });
  end.addEventListener("input", () => {
    end.value = Math.max(Number(end.value), Number(start.value) + 2 * STEP);
    video.currentTime = Number(end.value);
    showEnds();
  });
  const button = (text, className, work) => {
    const pressed = element("button", { textContent: text, className, ariaLabel: `${text}: ${name}` });
    pressed.addEventListener("click", work);
    return pressed;
  };
  const panel = element("div", { className: "trim" }, bar, told,
    button(TEXTS.trimPlay, "", () => play(video, ...values())),
    button(TEXTS.trimKeep, "main", () => attempt(async () => {
      const [from, to] = values();
      show(await json(`${clipAt(action, clip)}?start=${from}&end=${to}`, { method: "PATCH" }));
      return TEXTS.trimDone;
    })),
    button(TEXTS.cancel, "", () => panel.remove()));
  made.append(panel);
  showEnds();
  start.focus();
}
