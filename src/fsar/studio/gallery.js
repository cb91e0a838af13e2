"use strict";
// Examples: the gallery, and what comes into it.

function groups() {
  const { actions, background } = state.described;
  return Object.entries(actions).concat(background.length ? [["background", background]] : []);
}

function show(described) {
  state.described = described;
  $("undo").disabled = !described.undo;
  $("expected").textContent = stateOf(described);
  const names = groups().map(([action]) => action);
  $("actions").replaceChildren(...names.map((name) => element("option", { value: name })));
  const kept = new Map([...document.querySelectorAll("#gallery figure")].map((each) => [each.dataset.key, each]));
  $("gallery").replaceChildren(...groups().map((group) => shelf(group, kept)));
}

// What can be expected of the answers, or what is missing before there are any.
function stateOf({ actions, expected, lacking }) {
  if (expected) return TEXTS.expected(...expected.map(percent));
  if (!lacking) return TEXTS.single;
  return Object.keys(actions).length ? TEXTS.oneAction : TEXTS.none;
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
  const trim = element("button", { textContent: TEXTS.trim, ariaLabel: `${TEXTS.trim}: ${name}` });
  const made = element("figure", {}, video, move, trim, remove);
  trim.addEventListener("click", () => trimExample(made, video, action, clip, name));
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
