/** Slices, score against seconds, and the share of trials up to a score. */

import { chartAxis, onAxis } from "../axes.js";
import { colours } from "../colours.js";
import { accuracy, capital, duration, short } from "../format.js";
import { el } from "../html.js";
import { setParams } from "../view.js";
import { axisLook, Chart } from "./chart.js";
import { describeTrial, pointMarks, pointSeries, scoreAxis, trialRows } from "./points.js";

/** @typedef {import("../store.js").Store} Store */

/** @param {Store} store @param {(number: number) => void} open @param {any} more */
const pointChart = (store, open, more) => new Chart({
  open, pick: (/** @type {number} */ one) => store.pick(one), trials: () => store.scored(), zooms: true,
  describe: (/** @type {number} */ one) => describeTrial(store, one).replaceAll("\n", ", "),
  rows: () => trialRows(store, store.scored()), ...more,
});

/** The score by one hyperparameter. @param {Store} store @param {string} name @param {(number: number) => void} open */
export function makeSlice(store, name, open) {
  const axis = () => /** @type {import("../axes.js").Axis} */ (store.axes.get(name));
  const place = (/** @type {number} */ one) => [onAxis(axis(), store.params[name][one]), store.score[one]];
  return pointChart(store, open, {
    id: `slice-${name}`, title: name, height: "240px", controls: axis().mayBeLog && logSwitch(store, name), marks: () => pointMarks(store, place),
    sentence: () => describeMeans(meansBy(store, name), axis()),
    option: () => {
      if (!store.scored().length) return "Nothing to draw yet.";
      const means = meansBy(store, name);
      return {
        grid: { left: 56, right: 16, top: 28, bottom: 30 }, xAxis: axisLook({ ...chartAxis(axis()), name: "" , axisLabel: { color: colours().quiet, hideOverlap: true, formatter: (/** @type {any} */ value) => short(value) } }), yAxis: scoreAxis(store.scoring),
        series: [...pointSeries(store, place), ...(means.length > 1 ? [{ id: "mean", type: "line", silent: true, z: 4, symbol: "diamond", symbolSize: 8, lineStyle: { color: colours().ink, width: 1.5, type: "dashed" }, itemStyle: { color: colours().ink }, data: means.map((one) => [onAxis(axis(), one.value), one.mean]) }] : [])],
      };
    },
  });
}

/** Chooses between a logarithmic and a linear axis. @param {Store} store @param {string} name */
function logSwitch(store, name) {
  const box = el("input", { type: "checkbox", "aria-label": `Logarithmic: ${name}`, checked: store.axes.get(name)?.log, onchange: () => {
    setParams({ [`log.${name}`]: box.checked ? "1" : "0" });
    store.setAxes();
    store.dispatchEvent(new Event("axes"));
  } });
  return el("label.quiet", {}, box, "log");
}

/** Mean score of each value, where there are few. @param {Store} store @param {string} name @returns {{value: any, mean: number, count: number}[]} */
function meansBy(store, name) {
  const axis = store.axes.get(name), groups = new Map();
  if (!axis?.choices.length) return [];
  for (const one of store.scored()) {
    const value = onAxis(axis, store.params[name][one]);
    const group = groups.get(value) ?? { sum: 0, count: 0 };
    groups.set(value, { sum: group.sum + store.score[one], count: group.count + 1 });
  }
  const found = axis.choices.filter((value) => groups.has(value));
  return store.scored().length > found.length ? found.map((value) => ({ value, mean: groups.get(value).sum / groups.get(value).count, count: groups.get(value).count })) : [];
}

/** @param {{value: any, mean: number}[]} means @param {import("../axes.js").Axis} axis */
function describeMeans(means, axis) {
  if (means.length < 2 && !axis.numeric) return axis.choices.join(", ");
  if (means.length < 2) return `${axis.log ? "Logarithmic" : "Linear"} axis from ${short(axis.low)} to ${short(axis.high)}.`;
  const sorted = [...means].sort((a, b) => b.mean - a.mean), last = sorted[sorted.length - 1];
  return `Best on average at ${short(sorted[0].value)} (${accuracy(sorted[0].mean)}), worst at ${short(last.value)} (${accuracy(last.mean)}).`;
}

/** @param {Store} store @param {(number: number) => void} open */
export function makeCost(store, open) {
  const place = (/** @type {number} */ one) => [store.seconds[one], store.score[one]];
  return pointChart(store, open, {
    id: "cost", title: `${capital(store.scoring)} against seconds of training`, marks: () => pointMarks(store, place),
    sentence: () => {
      const fastest = [...store.scored()].filter((one) => store.rank[one] !== null && /** @type {number} */ (store.rank[one]) <= 10).sort((a, b) => (store.seconds[a] ?? 0) - (store.seconds[b] ?? 0))[0];
      return fastest === undefined ? "No trial has been trained yet." : `The fastest of the best ten is trial ${fastest}: ${accuracy(store.score[fastest])} after ${duration(store.seconds[fastest])}.`;
    },
    option: () => (store.scored().length ? { grid: { left: 56, right: 20, top: 30, bottom: 40 }, xAxis: axisLook({ type: "value", scale: true, name: "seconds", nameLocation: "middle", nameGap: 24 }), yAxis: scoreAxis(`validation ${store.scoring}`), series: pointSeries(store, place) } : "Nothing to draw yet."),
  });
}

/** Empirical distribution: which share of the trials stays below a score. @param {{name: string, scores: () => number[]}[]} sets @param {string} scoring */
export function makeEdf(sets, scoring) {
  const steps = (/** @type {number[]} */ scores) => {
    const sorted = [...scores].sort((a, b) => a - b);
    return sorted.map((score, at) => [score, (at + 1) / sorted.length]);
  };
  const median = (/** @type {number[]} */ scores) => [...scores].sort((a, b) => a - b)[Math.floor(scores.length / 2)];
  return new Chart({
    id: "edf", title: `Share of the trials up to ${scoring === "accuracy" ? "an accuracy" : `a ${scoring}`}`, zooms: true,
    sentence: () => sets.map(({ name, scores }) => (scores().length ? `${name}: half of ${scores().length} trials reach ${accuracy(median(scores()))}.` : `${name}: no scores yet.`)).join(" "),
    rows: () => ({ names: ["job", scoring, "share"], rows: sets.flatMap(({ name, scores }) => steps(scores()).map((step) => [name, ...step])) }),
    option: () => {
      if (!sets.some(({ scores }) => scores().length)) return "Nothing to draw yet.";
      return {
        grid: { left: 56, right: 20, top: 30, bottom: 40 }, ...(sets.length > 1 && { legend: { textStyle: { color: colours().ink }, top: 0 } }),
        color: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"],
        xAxis: axisLook({ type: "value", scale: true, name: `validation ${scoring}`, nameLocation: "middle", nameGap: 24 }), yAxis: axisLook({ type: "value", min: 0, max: 1, name: "share" }),
        series: sets.map(({ name, scores }, at) => ({ id: `edf-${at}`, name, type: "line", step: "end", showSymbol: false, data: steps(scores()) })),
      };
    },
  });
}
