"use strict";

// The slider moves the edge between the two pictures; the buttons choose the left one.
for (const pair of document.querySelectorAll(".pair")) {
  const frame = pair.querySelector(".frame");
  const slider = pair.querySelector("input");
  const move = () => {
    frame.style.setProperty("--at", slider.value + "%");
    slider.setAttribute("aria-valuetext", slider.value + " percent");
  };
  slider.addEventListener("input", move);
  move(); // a reloaded page keeps the slider's place
  for (const button of pair.querySelectorAll("button[data-version]")) {
    button.addEventListener("click", () => {
      const chosen = button.dataset.version;
      for (const image of pair.querySelectorAll(".before")) image.hidden = image.dataset.version !== chosen;
      for (const other of pair.querySelectorAll("button[data-version]"))
        other.setAttribute("aria-pressed", String(other === button));
      pair.querySelector(".tag.left").textContent = chosen;
    });
  }
}

// A click on a head sorts by it, another one turns the order round; what is unknown stays last.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], down ? -1 : 1));
      body.append(...rows);
    });
  });
}

function compare(a, b, sign) {
  const x = a.dataset.sort, y = b.dataset.sort;
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
  const bothNumbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
  return sign * (bothNumbers ? Number(x) - Number(y) : x.localeCompare(y));
}

// Only rows with every chosen value are shown, and not the columns that were chosen by: they are equal then.
// A row without a network has no model and no steps: it stands beside all.
for (const section of document.querySelectorAll("section")) {
  const choosers = [...section.querySelectorAll(".filters select")];
  if (!choosers.length) continue;
  const [head, ...rows] = section.querySelector("table").rows;
  const fits = (row, chooser) =>
    chooser.value === "" ||
    row.cells[chooser.dataset.column].textContent === chooser.value ||
    ("anywhere" in row.dataset && chooser.dataset.head !== "size");
  const filter = () => {
    for (const row of rows) row.hidden = !choosers.every((chooser) => fits(row, chooser));
    for (const row of [head, ...rows])
      for (const { dataset, value } of choosers) row.cells[dataset.column].hidden = value !== "";
    const shown = rows.filter((row) => !row.hidden).length;
    section.querySelector(".count").textContent = shown + " of " + rows.length + " rows";
  };
  for (const chooser of choosers) chooser.addEventListener("change", filter);
  filter();
}
