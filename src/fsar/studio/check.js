"use strict";
// How well the examples name each other, and what would help.

async function check() {
  const found = await json(at("check"));
  const { confusion, certainty, actions } = found;
  const next = nextOf(found);
  $("next").textContent = next || "";
  const lines = found.findings.length ? found.findings.map(withNumbers) : [TEXTS.fine];
  for (const [number, share] of Object.entries(found.curve)) lines.push(TEXTS.curve(number, percent(share)));
  $("findings").replaceChildren(...lines.map((line) => element("li", { textContent: line })));
  const advice = Object.entries(actions).map(([action, count]) => adviceOn(action, count, confusion[action]));
  $("advice").replaceChildren(...advice.map((line) => element("li", { textContent: line })));
  const known = Object.keys(certainty).length;
  $("confusion").replaceChildren(...(known ? [confusionTable(confusion)] : [element("p", { textContent: TEXTS.tooFew })]));
  drawGrowth(found.growth);
  $("checked").hidden = false;
  return next || TEXTS.tooFew;
}

// Name clips by their numbers in the gallery instead of by their files.
function withNumbers(words) {
  for (const [action, clips] of groups()) {
    clips.forEach((clip, i) => { words = words.replaceAll(clip, TEXTS.example(action, i + 1)); });
  }
  return words;
}

// The action to record next, in words: the one with a single example, or else the least certain one.
function nextOf({ actions, certainty, confusion, curve }) {
  const names = Object.keys(actions);
  if (names.length < 2) return TEXTS.nextAction;
  const single = names.find((name) => actions[name] === 1);
  if (single) return TEXTS.nextSingle(single);
  const [least] = Object.entries(certainty).sort((one, other) => one[1] - other[1]);
  if (!least) return null;
  const [action, share] = least;
  const mistakes = mistakesOf(action, confusion[action]);
  const words = [TEXTS.next(action, percent(share))];
  if (mistakes.length) words.push(TEXTS.nextMixed(mistakes.map(([other]) => other).join(", ")));
  const [few, many] = [Object.values(curve).at(0), Object.values(curve).at(-1)];
  if (Object.keys(curve).length > 1 && many > few) words.push(TEXTS.nextHelps(percent(few), percent(many)));
  return words.join(" ");
}

const mistakesOf = (action, row) =>
  Object.entries(row).filter(([other, count]) => other !== action && count).sort((one, other) => other[1] - one[1]);
const sum = (row) => Object.values(row).reduce((total, count) => total + count, 0);

function adviceOn(action, count, row) {
  if (count === 1) return TEXTS.adviceSingle(action);
  if (!row || !sum(row)) return TEXTS.adviceNone(action);
  const mistakes = mistakesOf(action, row);
  if (!mistakes.length) return count < ENOUGH ? TEXTS.adviceMore(action, sum(row)) : TEXTS.adviceFine(action, sum(row));
  return TEXTS.adviceMixed(action, row[action], sum(row), mistakes[0][0]);
}
const ENOUGH = 3; // examples of an action

// Rows: what the clips show; columns: what the other clips name them.
function confusionTable(confusion) {
  const names = Object.keys(confusion);
  const head = (text, scope) => {
    const cell = element("th", { textContent: text });
    cell.setAttribute("scope", scope);
    return cell;
  };
  const columns = names.map((name) => {
    const cell = head("", "col");
    cell.append(element("span", { textContent: name }));
    return cell;
  });
  const rows = names.map((name) => {
    const total = Math.max(1, sum(confusion[name]));
    const cells = names.map((other) => {
      const count = confusion[name][other];
      const cell = element("td", { textContent: count, className: other === name ? "right" : "wrong" });
      cell.style.setProperty("--share", `${Math.round((100 * count) / total)}%`);
      cell.classList.toggle("empty", !count);
      return cell;
    });
    return element("tr", {}, head(name, "row"), ...cells);
  });
  const corner = element("td", { textContent: TEXTS.corner, className: "hint" });
  const caption = element("caption", { textContent: TEXTS.confusion });
  return element("table", {}, caption, element("thead", {}, element("tr", {}, corner, ...columns)), element("tbody", {}, ...rows));
}

// Accuracy after each change of the examples, as a line.
function drawGrowth(growth) {
  $("growth").hidden = growth.length < 2;
  if (growth.length < 2) return;
  const [width, height, edge] = [300, 80, 6]; // as in the view box
  const x = (i) => edge + (i * (width - 2 * edge)) / (growth.length - 1);
  const y = (share) => edge + (1 - share) * (height - 2 * edge);
  const last = growth.at(-1);
  const words = TEXTS.growth(percent(growth[0].accuracy), percent(last.accuracy), last.examples);
  const [line, dot] = $("growth-line").children;
  line.setAttribute("points", growth.map(({ accuracy }, i) => `${x(i).toFixed(1)},${y(accuracy).toFixed(1)}`).join(" "));
  dot.setAttribute("cx", x(growth.length - 1));
  dot.setAttribute("cy", y(last.accuracy));
  $("growth-line").setAttribute("aria-label", words);
  $("growth-words").textContent = words;
}

// What a correction did to the other examples.
function effectOf({ before, after, changed }) {
  const words = [];
  if (before.of && after.of) words.push(TEXTS.effect(before.right, before.of, after.right, after.of));
  else if (after.of) words.push(TEXTS.effectFirst(after.right, after.of));
  const made = element("div", {}, element("p", { textContent: words.join(" ") || TEXTS.tooFew }));
  const rows = changed.map(({ action, clip, before: was, after: is }) => {
    const number = (Object.fromEntries(groups())[action] || []).indexOf(clip) + 1;
    return element("li", { textContent: TEXTS.changed(TEXTS.example(action, number), was, is) });
  });
  made.append(rows.length ? element("ul", {}, ...rows) : element("p", { className: "hint", textContent: TEXTS.unchanged }));
  return made;
}
