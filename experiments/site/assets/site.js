/* Tables: filter, keys and details of cells. Figures: zoom. */
"use strict";

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

/* Filter: a row is shown if it has every word and a cell in one of the chosen states. */
function filterRows(form) {
  const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const states = new Set(all("[name=state]:checked", form).map((box) => box.value));
  let shown = 0;
  let total = 0;
  for (const entry of all(".dc-entry")) {
    let kept = 0;
    for (const row of all(".dc-entry > .dc-scroll tbody tr", entry.parentElement).filter((row) => entry.contains(row))) {
      const text = `${entry.dataset.title} ${row.innerText || row.textContent}`.toLowerCase();
      const fits = words.every((word) => text.includes(word));
      row.hidden = !(fits && row.dataset.states.split(" ").some((state) => states.has(state)));
      kept += !row.hidden;
      total += 1;
    }
    entry.hidden = kept === 0;
    entry.previousElementSibling.hidden = kept === 0;
    shown += kept;
  }
  form.querySelector("output").textContent = shown === total ? "" : `${shown} of ${total} rows are shown.`;
}

/* Details: a dialog for each row. The page's address names an open one. */
function openDetails(id, column) {
  const dialog = document.getElementById(id);
  if (!dialog || dialog.tagName !== "DIALOG" || dialog.open) return;
  for (const row of all("[data-column]", dialog)) row.classList.toggle("dc-chosen", row.dataset.column === column);
  dialog.showModal();
  history.replaceState(null, "", `#${id}`);
}

function prepareDialog(dialog) {
  dialog.querySelector(".dc-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  for (const link of all(".dc-of a", dialog)) link.addEventListener("click", () => dialog.close());
}

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/* Keys: a table is one stop of the Tab key; arrows move between its cells. */
function moveBetweenCells(table) {
  const buttons = all("button[data-opens]", table);
  buttons.forEach((button, number) => (button.tabIndex = number ? -1 : 0));
  table.addEventListener("keydown", (event) => {
    const across = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!(across || down) || !buttons.includes(event.target)) return;
    event.preventDefault();
    const cell = event.target.closest("td");
    const visible = buttons.filter((button) => !button.closest("tr").hidden);
    let next = visible[visible.indexOf(event.target) + across];
    if (down) {
      const rest = down > 0 ? visible : [...visible].reverse();
      const below = rest.slice(rest.indexOf(event.target) + 1);
      next = below.find((button) => button.closest("td").cellIndex === cell.cellIndex);
    }
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  table.addEventListener("focusin", (event) => {
    if (!buttons.includes(event.target)) return;
    for (const button of buttons) button.tabIndex = button === event.target ? 0 : -1;
  });
}

/* Zoom: the part of a drawing that is shown is its viewBox. */
function prepareFigure(figure) {
  const view = figure.querySelector(".dc-view");
  const svg = view.querySelector("svg");
  const whole = svg.getAttribute("viewBox").split(" ").map(Number);
  let [x, y, width, height] = whole;
  const pointers = new Map();
  const scale = () => whole[2] / width;

  function show() {
    width = Math.min(width, whole[2]);
    height = (width * whole[3]) / whole[2];
    x = Math.max(0, Math.min(x, whole[2] - width));
    y = Math.max(0, Math.min(y, whole[3] - height));
    svg.setAttribute("viewBox", [x, y, width, height].join(" "));
    svg.style.setProperty("--zoom", scale());
    view.classList.toggle("dc-zoomed", scale() > 1.001);
  }
  function zoom(factor, at = [0.5, 0.5]) {
    const narrower = Math.max(whole[2] / 16, Math.min(whole[2], width / factor));
    x += (width - narrower) * at[0];
    y += (height - (narrower * whole[3]) / whole[2]) * at[1];
    width = narrower;
    show();
  }
  function move(right, down) {
    x += right * width;
    y += down * height;
    show();
  }
  function place(event) {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
  const reset = () => ([x, y, width, height] = whole) && show();
  const actions = { in: () => zoom(1.5), out: () => zoom(1 / 1.5), reset };
  for (const button of all("[data-zoom]", figure)) button.addEventListener("click", actions[button.dataset.zoom]);
  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, 0: reset,
    ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0),
    ArrowUp: () => move(0, -0.1), ArrowDown: () => move(0, 0.1),
  };
  view.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow") && scale() < 1.001) return; // they scroll the page
    keys[event.key]();
    event.preventDefault();
  });
  view.addEventListener("dblclick", (event) => zoom(2, place(event)));
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // without it, the wheel scrolls the page
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, place(event));
  }, { passive: false });
  view.addEventListener("pointerdown", (event) => pointers.set(event.pointerId, place(event)));
  view.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = pointers.get(event.pointerId);
    const now = place(event);
    if (pointers.size === 1 && scale() > 1.001) {
      view.setPointerCapture(event.pointerId);
      move(before[0] - now[0], before[1] - now[1]);
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const distance = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
      zoom(distance(now) / distance(before), other);
    }
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"])
    view.addEventListener(end, (event) => pointers.delete(event.pointerId));
}

for (const form of all(".dc-filter")) {
  form.addEventListener("input", () => filterRows(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  filterRows(form);
}
all(".dc-dialog").forEach(prepareDialog);
all(".dc-table").forEach(moveBetweenCells);
all(".dc-figure").forEach(prepareFigure);
document.addEventListener("click", (event) => {
  const cell = event.target.closest("[data-opens]");
  const button = event.target.closest(".dc-copy");
  if (cell) openDetails(cell.dataset.opens, cell.dataset.column);
  if (button) copy(button);
});
openDetails(decodeURIComponent(location.hash.slice(1)));

/* What the theme leaves out: a name for its search, and keys for tables and code that scroll. */
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
addEventListener("load", () => {
  for (const part of all(".md-typeset__scrollwrap, pre > code")) if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
});
