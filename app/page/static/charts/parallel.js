/** Parallel coordinates: a line for each trial; dragging on an axis selects. */

import { chartAxis, onAxis } from "../axes.js";
import { colours, scaleColour } from "../colours.js";
import { short } from "../format.js";
import { admits, axisFilters, setAxisFilter } from "../filters.js";
import { Chart } from "./chart.js";
import { describeTrial, scoreSpan, trialRows } from "./points.js";

const MANY = 1000;
const MAX_AXES = 14;
const MAX_STEPS = 8;

/** Axes of few values have a step for each. @param {import("../axes.js").Axis} axis */
const stepped = (axis) => !axis.numeric || (axis.choices.length > 0 && axis.choices.length <= MAX_STEPS);

/** @param {import("../store.js").Store} store @param {(number: number) => void} open */
export function makeParallel(store, open) {
  let drawn = "";
  const names = () => [...store.axes.keys()].slice(0, MAX_AXES);
  const axisOf = (/** @type {string} */ name) => /** @type {import("../axes.js").Axis} */ (store.axes.get(name));
  const placeOn = (/** @type {import("../axes.js").Axis} */ axis, /** @type {any} */ value) => (stepped(axis) && value !== null && value !== undefined ? String(value) : onAxis(axis, value));
  const row = (/** @type {number} */ one) => [...names().map((name) => placeOn(axisOf(name), store.params[name][one])), store.score[one]];
  const lines = () => store.admitted.filter((one) => store.score[one] !== null);
  const chart = new Chart({
    id: "parallel", title: "Parallel coordinates", open, pick: (one) => store.pick(one),
    trials: () => store.scored(), describe: (one) => describeTrial(store, one).replaceAll("\n", ", "),
    rows: () => trialRows(store, store.selected),
    sentence: () => (store.ranked.length ? `Each line is a trial; drag along an axis to select, click it to undo. ${describeSelection(store)}` : "A line for each trial, once there are any."),
    marks: () => [{ id: "picked", type: "parallel", silent: true, z: 5, lineStyle: { width: 3, color: colours().ink, opacity: 1 }, inactiveOpacity: 1,
      data: [...store.picked].filter((one) => (store.score[one] ?? null) !== null).map(row) }],
    made: (made) => made.on("axisareaselected", (/** @type {any} */ event) => takeArea(event)),
    option: () => {
      if (!lines().length) return "Nothing to draw yet.";
      const { quiet, line, ink, panel, accent } = colours(), all = lines(), many = all.length > MANY, [low, high] = scoreSpan(store);
      drawn = all.length + ":" + store.version;
      const axis = (/** @type {any} */ one, /** @type {number} */ dim) => ({ ...one, dim, id: `axis-${one.name}`, z: 20, axisTick: { show: one.type !== "category" }, axisLabel: { color: ink, backgroundColor: panel, borderRadius: 2, padding: [1, 2], formatter: (/** @type {any} */ value) => short(typeof one.data === "undefined" ? value : Number.isNaN(Number(value)) ? value : Number(value)) }, axisLine: { lineStyle: { color: quiet } } });
      return {
        tooltip: { renderMode: "richText", trigger: "item", backgroundColor: panel, borderColor: line, textStyle: { color: ink, fontSize: 12 }, confine: true },
        parallel: { left: 50, right: 60, top: 40, bottom: 24, axisExpandable: false, parallelAxisDefault: { nameTextStyle: { color: ink }, nameGap: 14, areaSelectStyle: { color: accent, borderColor: accent, opacity: 0.25, width: 22 }, nameTruncate: { maxWidth: 130 } } },
        parallelAxis: [...names().map((name, dim) => axis(stepped(axisOf(name)) ? { type: "category", data: axisOf(name).choices.map(String), name } : chartAxis(axisOf(name)), dim)),
          axis({ type: "value", scale: true, name: store.scoring }, names().length)],
        series: [{ id: "lines", type: "parallel", inactiveOpacity: many ? 0.015 : 0.08, activeOpacity: many ? 0.4 : 0.8,
          lineStyle: { width: many ? 1 : 1.8 }, tooltip: { formatter: (/** @type {any} */ item) => describeTrial(store, item.data.trial) },
          data: all.map((one) => ({ value: row(one), trial: one, lineStyle: { color: scaleColour(high > low ? (/** @type {number} */ (store.score[one]) - low) / (high - low) : 1) } })) }],
      };
    },
  });

  /** What was dragged becomes a filter. @param {any} event */
  const takeArea = (event) => {
    const index = chart.chart.getOption().parallelAxis.findIndex((/** @type {any} */ one) => one.id === event.parallelAxisId || one.name === event.parallelAxisId);
    const name = index < 0 ? "" : [...names(), store.scoring][index];
    if (!name || event.own) return;
    const axis = store.axes.get(name), intervals = event.intervals ?? [];
    if (!intervals.length) setAxisFilter(name, null);
    else if (axis && stepped(axis)) setAxisFilter(name, { kind: "names", names: axis.choices.map(String).filter((_, at) => intervals.some((/** @type {number[]} */ [a, b]) => at >= Math.min(a, b) - 0.001 && at <= Math.max(a, b) + 0.001)) });
    else setAxisFilter(name, { kind: "ranges", ranges: intervals.map((/** @type {number[]} */ [a, b]) => [Math.min(a, b), Math.max(a, b)]) });
    clearTimeout(later);
    later = setTimeout(() => store.refilter(), 120);
  };
  let later = 0;

  /** Filters from elsewhere become areas on the axes. */
  const showAreas = () => {
    if (!chart.chart) return;
    const filters = axisFilters();
    [...names(), store.scoring].forEach((name) => {
      const filter = filters.get(name), axis = store.axes.get(name);
      const steps = axis && stepped(axis) ? axis.choices.flatMap((value, at) => (filter && admits(filter, value) ? [[at - 0.2, at + 0.2]] : [])) : null;
      const intervals = !filter ? [] : steps ?? (filter.kind === "ranges" ? filter.ranges : []);
      const id = `axis-${name}`;
      const now = JSON.stringify(intervals);
      if (areas.get(name) === now || (!filter && !areas.has(name))) return;
      areas.set(name, now);
      chart.chart.dispatchAction({ type: "axisAreaSelect", parallelAxisId: id, intervals, own: true });
    });
  };
  /** @type {Map<string, string>} */
  const areas = new Map();
  const draw = chart.draw.bind(chart);
  chart.draw = async () => { await draw(); showAreas(); };
  return Object.assign(chart, {
    /** Filters have changed: lines are drawn anew only if others pass. */
    filtered() {
      if (drawn !== lines().length + ":" + store.version) chart.update();
      else showAreas();
    },
  });
}

/** @param {import("../store.js").Store} store */
const describeSelection = (store) => `${store.scored().length.toLocaleString("en")} of ${store.ranked.length.toLocaleString("en")} lines are selected.`;
