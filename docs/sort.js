// A click on the head of a table of class `sortable` sorts its rows: numbers by value, names by letters.
"use strict";
document.querySelectorAll("table.sortable th").forEach((head) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], up = head.getAttribute("aria-sort") === "descending";
    const place = [...head.parentNode.children].indexOf(head);
    const value = (row) => row.children[place].textContent.trim();
    const rank = (row) => (Number.isNaN(parseFloat(value(row))) ? null : parseFloat(value(row)));
    const rows = [...body.rows].sort((a, b) => {
      const [first, second] = [rank(a), rank(b)];
      if (first === null && second === null) return value(a) === value(b) ? 0 : value(a) === "" ? 1 : value(b) === "" ? -1 : value(a).localeCompare(value(b)) * (up ? 1 : -1);
      if (first === null || second === null) return first === null ? 1 : -1; // what was not measured stays last
      return up ? first - second : second - first;
    });
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
});
