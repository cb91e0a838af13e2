"use strict";
// Long work: its progress is shown, it can be stopped, and the rest of the page goes on.
const EVERY = 400; // milliseconds between two questions for the progress

async function follow(words, begun) {
  const row = element("div", { className: "task" });
  const bar = element("progress", { max: 1, ariaLabel: words });
  const stop = element("button", { textContent: TEXTS.stop, ariaLabel: `${TEXTS.stop}: ${words}` });
  row.append(element("span", { textContent: words }), bar, stop);
  $("long").append(row);
  try {
    let task = await begun;
    stop.addEventListener("click", () => ask(`tasks/${task.task}`, { method: "DELETE" }).catch(() => {}));
    while (task.state !== "done") {
      await new Promise((resolve) => setTimeout(resolve, EVERY));
      task = await json(`tasks/${task.task}`);
      if (task.state !== "waiting") bar.value = task.progress;
    }
    return task.result;
  } finally {
    row.remove();
  }
}

// Make another recogniser of the same clips, with another method or backbone.
async function rebuild() {
  const [name, method, backbone] = [state.name, $("method").value, $("backbone").value];
  const to = `${name} ${method} ${backbone}`.slice(0, 80).trim();
  const query = new URLSearchParams({ to, method, backbone });
  const task = json(`${at("rebuild")}?${query}`, { method: "POST" });
  const { accuracy, before } = await follow(TEXTS.rebuilding(to), task);
  const words = accuracy === null ? TEXTS.rebuilt(to) : TEXTS.compared(to, percent(accuracy), name, percent(before));
  $("rebuilt").textContent = words;
  await list(state.name);
  $("rebuilt").textContent = words;
}

async function offerChoices() {
  const { methods, backbones } = await json("choices");
  const option = (value) => element("option", { value, textContent: TEXTS.choices[value] || value });
  $("method").replaceChildren(...methods.map(option));
  $("backbone").replaceChildren(...backbones.map(option));
}
