/** What every chart has: a sentence, a table, PNG and CSV, keys, zoom in the address; drawn only when it is seen. */

import { colours } from "../colours.js";
import { csv } from "../format.js";
import { announce, download, el, fill, say, table } from "../html.js";
import { param, setParams } from "../view.js";

const MAX_TABLE_ROWS = 200;
/** @type {Promise<any>|null} */
let loading = null;

/** ECharts, or null where it is not installed. */
export function loadCharts() {
  loading ??= import("../lib/echarts.mjs").catch(() => null);
  return loading;
}

/**
 * @typedef {object} Kind
 * @property {string} id @property {string} title
 * @property {() => any} option what is drawn, or a text that says why nothing is
 * @property {() => string} sentence what it shows, in words
 * @property {() => {names: string[], rows: any[][]}} rows the same as a table
 * @property {() => any} [marks] series that mark the picked trials
 * @property {() => number[]} [trials] the trials in the order in which the arrow keys go through them
 * @property {(number: number) => string} [describe] one trial in words
 * @property {(number: number) => void} [pick] @property {(number: number) => void} [open]
 * @property {(chart: any) => void} [made] @property {boolean} [zooms] @property {any} [controls] @property {string} [height]
 */

export class Chart {
  /** @param {Kind} kind */
  constructor(kind) {
    this.kind = kind;
    this.stale = true;
    this.seen = false;
    /** @type {any} */ this.chart = null;
    this.cursor = -1;
    this.next = 0;
    this.words = el("p.sentence", { id: `${kind.id}-words` });
    this.canvas = el("div.canvas", { tabindex: 0, role: "group", "aria-label": kind.title, "aria-describedby": `${kind.id}-words`, "data-keys": true, css: { height: kind.height ?? "320px" }, onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event) });
    this.empty = el("p.quiet", { hidden: true });
    this.rows = el("div");
    const as = el("details", { ontoggle: () => this.fillTable() }, el("summary", {}, "As a table"), this.rows);
    this.as = as;
    this.node = el("figure.chart", { id: kind.id },
      el("figcaption", {}, el("h2", {}, kind.title), el("span.grow"), kind.controls,
        kind.zooms && el("button.plain", { onclick: () => this.resetZoom(), title: "Show everything again (0)" }, "Reset zoom"),
        el("button.plain", { onclick: () => this.savePicture() }, "PNG"), el("button.plain", { onclick: () => this.saveRows() }, "CSV")),
      this.words, this.canvas, this.empty, as);
    new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      this.plan();
    }, { rootMargin: "200px" }).observe(this.node);
    new ResizeObserver(() => this.chart?.resize()).observe(this.canvas);
    addEventListener("theme", () => this.update());
    matchMedia("print").addEventListener("change", () => this.node.offsetParent && this.draw().then(() => this.chart?.getZr().flush()));
  }

  /** What it shows has changed. */
  update() {
    this.stale = true;
    this.plan();
  }

  /** Draw once in the next frame, if it is seen. */
  plan() {
    if (!this.seen || !this.stale || this.planned) return;
    this.planned = true;
    // A chart that takes long is drawn less often.
    setTimeout(() => requestAnimationFrame(() => { this.planned = false; this.draw(); }), Math.max(0, this.next - performance.now()));
  }

  /** Draw now. */
  async draw() {
    this.stale = false;
    say(this.words, this.kind.sentence());
    if (this.as.open) this.fillTable();
    const library = await loadCharts();
    if (!library) return fill(this.canvas, el("p.quiet", {}, "ECharts is not installed; the table has the same figures."));
    const option = this.kind.option();
    this.empty.hidden = typeof option !== "string";
    this.canvas.hidden = !this.empty.hidden;
    if (typeof option === "string") return say(this.empty, option);
    if (!this.chart) this.make(library);
    const began = performance.now();
    this.chart.setOption({ ...frame(this.kind), ...option, series: [...option.series, ...(this.kind.marks?.() ?? [])] }, { replaceMerge: ["series"] });
    this.next = performance.now() + 4 * (performance.now() - began);
    if (!this.zoomed) this.restoreZoom();
    this.canvas.dataset.drawn = String(Number(this.canvas.dataset.drawn ?? 0) + 1);
  }

  /** @param {any} library */
  make(library) {
    this.chart = library.init(this.canvas, null, { renderer: "canvas" });
    this.chart.on("click", (/** @type {any} */ event) => typeof event.data?.trial === "number" && this.kind.pick?.(event.data.trial));
    this.chart.on("dblclick", (/** @type {any} */ event) => typeof event.data?.trial === "number" && this.kind.open?.(event.data.trial));
    if (this.kind.zooms) this.chart.on("datazoom", () => this.keepZoom());
    this.kind.made?.(this.chart);
  }

  /** Mark the picked trials anew, without drawing the rest. */
  mark() {
    if (this.chart && this.kind.marks && !this.stale) this.chart.setOption({ series: this.kind.marks() });
  }

  keepZoom() {
    const ends = this.chart.getOption().dataZoom.flatMap((/** @type {any} */ one) => [one.start, one.end]);
    const whole = ends.every((/** @type {number} */ end, /** @type {number} */ at) => end === (at % 2 ? 100 : 0));
    setParams({ [`zoom.${this.kind.id}`]: whole ? null : ends.map((/** @type {number} */ end) => Number(end.toFixed(2))).join(",") });
  }

  restoreZoom() {
    this.zoomed = true;
    const ends = param(`zoom.${this.kind.id}`).split(",").map(Number);
    if (this.kind.zooms && ends.length === 4 && !ends.some(Number.isNaN)) this.zoomTo(ends);
  }

  /** @param {number[]} ends start and end of x and of y, in percent */
  zoomTo([x0, x1, y0, y1]) {
    this.chart.dispatchAction({ type: "dataZoom", batch: [{ dataZoomIndex: 0, start: x0, end: x1 }, { dataZoomIndex: 1, start: y0, end: y1 }] });
  }

  resetZoom() {
    if (this.chart) this.zoomTo([0, 100, 0, 100]);
  }

  /** Arrow keys go along the trials, Space picks one, Enter opens it. @param {KeyboardEvent} event */
  onKey(event) {
    const trials = this.kind.trials?.() ?? [];
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined && trials.length) {
      this.cursor = Math.min(Math.max(this.cursor + step, 0), trials.length - 1);
      const text = this.kind.describe?.(trials[this.cursor]) ?? "";
      say(this.words, text);
      announce(text);
    } else if (event.key === " " && trials[this.cursor] !== undefined) this.kind.pick?.(trials[this.cursor]);
    else if (event.key === "Enter" && trials[this.cursor] !== undefined) this.kind.open?.(trials[this.cursor]);
    else if (event.key === "0") this.resetZoom();
    else return;
    event.preventDefault();
  }

  fillTable() {
    if (!this.as.open) return;
    const { names, rows } = this.kind.rows();
    fill(this.rows, rows.length > MAX_TABLE_ROWS && el("p.quiet", {}, `The first ${MAX_TABLE_ROWS} of ${rows.length} rows; CSV has all.`),
      table(this.kind.title, names, rows.slice(0, MAX_TABLE_ROWS)));
  }

  saveRows() {
    const { names, rows } = this.kind.rows();
    download(`${this.kind.id}.csv`, csv(names, rows), "text/csv");
  }

  async savePicture() {
    if (!this.chart) return;
    const address = this.chart.getDataURL({ pixelRatio: 2, backgroundColor: colours().panel });
    const bytes = Uint8Array.from(atob(address.split(",")[1]), (one) => one.charCodeAt(0));
    download(`${this.kind.id}.png`, new Blob([bytes], { type: "image/png" }));
  }
}

/** What all options share. @param {Kind} kind */
function frame(kind) {
  const { ink, quiet, line, panel } = colours();
  return {
    animation: false,
    textStyle: { color: ink, fontFamily: "inherit" },
    aria: { enabled: false },
    tooltip: { renderMode: "richText", backgroundColor: panel, borderColor: line, textStyle: { color: ink, fontSize: 12 }, confine: true },
    ...(kind.zooms && { dataZoom: [
      { type: "inside", xAxisIndex: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true, preventDefaultMouseMove: false },
      { type: "inside", yAxisIndex: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true, preventDefaultMouseMove: false },
    ] }),
    color: [colours().accent, quiet],
  };
}

/** How axes look. @param {any} axis */
export function axisLook(axis) {
  const { quiet, line } = colours();
  return { nameTextStyle: { color: quiet }, axisLabel: { color: quiet, hideOverlap: true }, axisLine: { lineStyle: { color: line } }, splitLine: { lineStyle: { color: line, opacity: 0.6 } }, ...axis };
}
