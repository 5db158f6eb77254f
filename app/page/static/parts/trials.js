/** The table of trials, by Tabulator: any number of rows, several sorts, columns that can be moved and hidden. */

import { scaleColour } from "../colours.js";
import { scoreSpan } from "../charts/points.js";
import { accuracy, capital, duration, short } from "../format.js";
import { el, fill } from "../html.js";
import { SIGNS } from "../format.js";
import { param, setParams } from "../view.js";

const MAX_HEIGHT = "70vh";

/** @param {import("../store.js").Store} store @param {string} id */
export function makeTrials(store, id) {
  const place = el("div.trials"), columns = el("details.columns", {}, el("summary", {}, "Columns"));
  const node = el("section", { "aria-label": "Trials" }, columns, place);
  /** @type {any} */
  let table = null;
  /** @type {any} */
  let starting = null;

  const row = (/** @type {number} */ one) => ({ number: one, state: store.state[one], rank: store.rank[one], accuracy: store.score[one], std: store.std[one], seconds: store.seconds[one], resources: store.resources[one], ...Object.fromEntries([...store.axes.keys()].map((name) => [`p.${name}`, store.params[name][one]])) });
  const shade = (/** @type {any} */ cell) => {
    const value = cell.getValue(), [low, high] = scoreSpan(store);
    if (value === null || value === undefined) return "–";
    return el("span.score", {}, el("i", { css: { background: scaleColour(high > low ? (value - low) / (high - low) : 1) } }), accuracy(value));
  };
  const plain = (/** @type {(value: any) => string} */ write) => (/** @type {any} */ cell) => document.createTextNode(write(cell.getValue()));
  const hidden = () => param("hide").split(",").filter(Boolean);
  const column = (/** @type {string} */ title, /** @type {string} */ field, /** @type {any} */ formatter, numeric = true) => ({
    title, field, formatter, hozAlign: numeric ? "right" : "left", sorter: numeric ? "number" : "string", sorterParams: { alignEmptyValues: "bottom" }, visible: !hidden().includes(field), headerSortTristate: true,
  });
  const makeColumns = () => [
    column("Trial", "number", (/** @type {any} */ cell) => el("a", { href: `jobs/${id}/trials/${cell.getValue()}` }, String(cell.getValue()))),
    column("State", "state", (/** @type {any} */ cell) => el(`span.state.${cell.getValue()}`, {}, `${SIGNS[cell.getValue()] ?? ""} ${cell.getValue()}`), false),
    column("Rank", "rank", plain((value) => String(value ?? "–"))), column(capital(store.scoring), "accuracy", shade), column("±", "std", plain(accuracy)), column("Seconds", "seconds", plain(duration)),
    ...(store.resources.some((one) => one) ? [column("Resources", "resources", plain((value) => String(value ?? "–")))] : []),
    ...[...store.axes.values()].map((axis) => column(axis.name, `p.${axis.name}`, plain(short), axis.numeric)),
  ];

  const start = async () => {
    const library = await import("../lib/tabulator.mjs").catch(() => null);
    if (!library) return fill(place, el("p.notice", {}, "The table needs Tabulator, which is not installed: run make install where npm's registry can be reached. CSV has all trials."));
    const fields = makeColumns().map((one) => one.field);
    const sorts = param("sort").split(",").map((one) => ({ column: one.replace(/^-/, ""), dir: one.startsWith("-") ? "desc" : "asc" })).filter((one) => fields.includes(one.column));
    table = new library.TabulatorFull(place, {
      index: "number", data: store.numbers().map(row), columns: makeColumns(), layout: "fitDataFill", maxHeight: MAX_HEIGHT, nestedFieldSeparator: false, movableColumns: true, columnDefaults: { headerHozAlign: "left", minWidth: 70 },
      initialSort: sorts, initialFilter: [], selectableRows: false, placeholder: "No trial fits the filters.",
      rowFormatter: (/** @type {any} */ one) => one.getElement().classList.toggle("picked", store.picked.has(one.getData().number)),
    });
    await new Promise((done) => table.on("tableBuilt", done));
    fixRoles(place);
    table.setFilter((/** @type {any} */ data) => store.chosen.has(data.number));
    table.on("dataSorted", (/** @type {any[]} */ now) => setParams({ sort: now.map((one) => (one.dir === "desc" ? "-" : "") + one.field).join(",") }));
    table.on("rowClick", (/** @type {any} */ event, /** @type {any} */ one) => event.target.closest("a") || store.pick(one.getData().number));
    fill(columns, el("summary", {}, "Columns"), makeColumns().map(({ title, field }) => el("label", {}, el("input", { type: "checkbox", checked: !hidden().includes(field), onchange: () => {
      table.toggleColumn(field);
      setParams({ hide: (hidden().includes(field) ? hidden().filter((one) => one !== field) : [...hidden(), field]).join(",") });
    } }), title)));
    new ResizeObserver(() => table.redraw()).observe(node);
  };
  const started = () => (starting ??= start());
  return {
    node,
    /** Show it, once it is seen. */
    show: started,
    /** Trials have changed: rows change in place, and none moves until the reader sorts again. @param {number[]} numbers */
    async update(numbers) {
      if (!table) return;
      await table.updateOrAddData(numbers.map(row));
      table.refreshFilter();
    },
    filter: () => table?.refreshFilter(),
    mark: () => table?.getRows("visible").forEach((/** @type {any} */ one) => one.reformat()),
  };
}

/** As the ARIA grid pattern has it: nothing that can have the focus stands between a grid and its rows. @param {Element} place */
function fixRoles(place) {
  place.removeAttribute("aria-owns");
  place.setAttribute("aria-label", "Trials");
  place.querySelector(".tabulator-tableholder")?.removeAttribute("tabindex");
}
