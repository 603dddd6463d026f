(() => {
"use strict";
const root = document.documentElement, tip = document.getElementById("tip");

// Theme: the system's, until the reader says otherwise.
const themes = ["auto", "light", "dark"], button = document.getElementById("theme");
const remember = (name) => { try { localStorage.setItem("growmas-theme", name); } catch { /* not kept */ } };
const recall = () => { try { return localStorage.getItem("growmas-theme"); } catch { return null; } };
const dress = (name) => {
  if (name === "auto") delete root.dataset.theme; else root.dataset.theme = name;
  button.textContent = "Theme: " + name;
  button.dataset.now = name;
};
dress(themes.includes(recall()) ? recall() : "auto");
button.addEventListener("click", () => {
  const next = themes[(themes.indexOf(button.dataset.now) + 1) % themes.length];
  dress(next);
  remember(next);
});

// Tips.
const show = (text, event) => {
  tip.textContent = text;
  tip.classList.add("on");
  const box = tip.getBoundingClientRect(), gap = 14;
  const x = event.clientX + gap + box.width > innerWidth ? event.clientX - gap - box.width : event.clientX + gap;
  const y = event.clientY + gap + box.height > innerHeight ? event.clientY - gap - box.height : event.clientY + gap;
  tip.style.left = Math.max(4, x) + "px";
  tip.style.top = Math.max(4, y) + "px";
};
const hide = () => tip.classList.remove("on");
const percent = (share) => (100 * share).toFixed(1) + "%";
const plain = (value) => value === 0 ? "0" : Number(value.toPrecision(3)).toString();
const answers = {
  columns(grid, i, j) {
    return grid.tips[j];
  },
  accuracy(grid, i, j, tasks) {
    const value = (grid.values[i] || [])[j];
    return value == null ? null : `${percent(value)} on ${tasks[j]}\nafter learning ${tasks[i]}`;
  },
  importance(grid, i, j, tasks) {
    const cell = grid.values[i][j];
    if (!cell) return `${grid.rows[i]} · ${tasks[j]}\nnot measured`;
    return `${grid.rows[i]} · ${tasks[j]}\nmean importance ${plain(cell[0])} a unit\n${cell[1]} of ${cell[2]} units are unused (exactly 0)`;
  },
  units(grid, i, j, tasks) {
    const [first, last] = grid.rows[i], code = grid.values[i][j];
    if (code === " ") return null;
    const name = `${grid.group} #${first}` + (last > first ? `–${last}` : "");
    const alive = grid.alive[i][j] + " alive after " + tasks[j];
    if (code === "u") return `${name}\n${alive}\nimportance not measured`;
    if (code === "z") return `${name}\n${alive}\nimportance exactly 0`;
    const [least, most] = grid.ends, at = (level) => least * (most / least) ** (level / (grid.levels - 1));
    const level = Number(code), low = at(level - 0.5), high = Math.min(at(level + 0.5), most);
    const worth = level === 0 ? `below ${plain(high)}` : `${plain(low)} to ${plain(high)}`;
    return `${name}\n${alive}\nimportance ${worth}` + (last > first ? " in the mean" : "");
  },
};
const grids = new WeakMap();
const read = (mark) => {
  if (!grids.has(mark)) grids.set(mark, JSON.parse(mark.dataset.grid));
  return grids.get(mark);
};
const tasksOf = (section) => {
  if (!section.tasks) section.tasks = JSON.parse(section.dataset.tasks || "[]");
  return section.tasks;
};
const ask = (mark, event) => {
  if (mark.dataset.tip) return [mark.dataset.tip, undefined];
  const grid = read(mark), box = mark.getBoundingClientRect(), tasks = tasksOf(mark.closest("section"));
  const rows = Array.isArray(grid.rows) ? grid.rows.length : grid.rows;
  const at = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
  const i = at((event.clientY - box.top) / box.height, rows), j = at((event.clientX - box.left) / box.width, grid.columns);
  return [answers[grid.kind](grid, i, j, tasks), String(j)];
};

// The task under the pointer is marked in every figure of its run.
let marked = null;
const unmark = () => {
  document.querySelectorAll(".guide").forEach((mark) => mark.remove());
  marked = null;
};
const mark = (section, task) => {
  const name = section.id + "/" + task;
  if (marked === name) return;
  unmark();
  marked = name;
  section.querySelectorAll(".hit[data-grid]").forEach((hit) => {
    const width = Number(hit.getAttribute("width")) / read(hit).columns;
    const guide = hit.cloneNode(false);
    for (const name of ["data-grid", "data-tip"]) guide.removeAttribute(name);
    guide.setAttribute("class", "guide");
    guide.setAttribute("x", Number(hit.getAttribute("x")) + task * width);
    guide.setAttribute("width", width);
    hit.before(guide);
  });
};
document.addEventListener("pointermove", (event) => {
  const target = event.target.closest && event.target.closest("[data-tip],[data-grid]");
  if (!target) { hide(); if (marked) unmark(); return; }
  const [text, task] = ask(target, event);
  if (text) show(text, event); else hide();
  if (task !== undefined) mark(target.closest("section"), task); else if (marked) unmark();
});
document.addEventListener("scroll", hide, { passive: true });

// A run's line and name come forward together.
document.querySelectorAll("svg").forEach((svg) => {
  const runOf = (mark) => [...mark.classList].find((name) => name.startsWith("run-"));
  const lines = [...svg.querySelectorAll("[class*=run-]")];
  lines.forEach((line) => {
    line.addEventListener("pointerenter", () => lines.forEach((other) => other.classList.toggle("faint", runOf(other) !== runOf(line))));
    line.addEventListener("pointerleave", () => lines.forEach((other) => other.classList.remove("faint")));
  });
});

// Events: words and kinds.
document.querySelectorAll(".filter").forEach((filter) => {
  const rows = [...filter.parentElement.querySelectorAll("tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
  const words = filter.querySelector("input[type=search]"), kinds = [...filter.querySelectorAll("input[type=checkbox]")];
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const on = kinds.filter((kind) => kind.checked).map((kind) => kind.value);
    let count = 0;
    rows.forEach(([row, text]) => {
      const have = row.dataset.kind.split(" ");
      const kind = have.some((name) => on.includes(name) || (name !== "born" && name !== "pruned" && on.includes("noted")));
      row.hidden = !(kind && wanted.every((word) => text.includes(word)));
      if (!row.hidden) count += 1;
    });
    filter.querySelector("output").textContent = `${count} of ${rows.length}`;
  };
  filter.addEventListener("input", apply);
  apply();
});

// A figure as a file of its own.
document.querySelectorAll(".save").forEach((save) => save.addEventListener("click", () => {
  const svg = save.closest("figure").querySelector("svg").cloneNode(true);
  svg.querySelectorAll(".guide,.hit").forEach((mark) => mark.remove());
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const paper = `<rect class="paper" width="${width}" height="${height}"/>`;
  svg.querySelector("desc").insertAdjacentHTML("afterend", document.getElementById("file-style").innerHTML + paper);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  link.download = svg.id + ".svg";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}));
})();
