/** Learning curves: a line per fold, validation thick, training thin. */

import { colours } from "../colours.js";
import { accuracy } from "../format.js";
import { axisLook, Chart } from "./chart.js";

const FOLDS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#b8a800", "#8c564b", "#17a2a2"];
const DASHES = ["solid", "dashed", "dotted"];

/**
 * @param {() => any[]} fits the trial's fits @param {"accuracy"|"loss"} what
 */
export function makeCurves(fits, what) {
  const name = (/** @type {any} */ fit) => (fit.fold === null ? "refit" : `fold ${fit.fold}`);
  const drawn = () => fits().filter((fit) => fit.history.length);
  return new Chart({
    id: `curves-${what}`, title: what === "accuracy" ? "Accuracy by epoch" : "Loss by epoch", zooms: true,
    sentence: () => (drawn().length ? drawn().map((fit) => {
      const last = fit.history[fit.history.length - 1], value = last[`val_${what}`] ?? last[what];
      return `${name(fit)}: ${value === null ? "–" : accuracy(value)} after ${fit.history.length} epochs`;
    }).join("; ") + "." : "No epoch has ended yet."),
    rows: () => ({ names: ["fold", "epoch", "loss", "accuracy", "validation loss", "validation accuracy", "seconds"],
      rows: drawn().flatMap((fit) => fit.history.map((/** @type {any} */ one) => [fit.fold ?? "refit", one.epoch, one.loss, one.accuracy, one.val_loss, one.val_accuracy, one.seconds])) }),
    option: () => {
      if (!drawn().length) return "No epoch has ended yet.";
      const line = (/** @type {any} */ fit, /** @type {number} */ at, /** @type {string} */ key, /** @type {any} */ look) => ({
        id: `${name(fit)}-${fit.n_resources}-${key}`, name: `${name(fit)}${key.startsWith("val") ? "" : ", training"}`, type: "line", symbol: at % 2 ? "emptyCircle" : "circle", symbolSize: fit.history.length > 60 ? 0 : 5,
        data: fit.history.map((/** @type {any} */ one) => [one.epoch, one[key]]), itemStyle: { color: FOLDS[at % FOLDS.length] }, lineStyle: { color: FOLDS[at % FOLDS.length], type: DASHES[at % DASHES.length], ...look },
      });
      return {
        grid: { left: 56, right: 20, top: 44, bottom: 40 }, legend: { textStyle: { color: colours().ink }, top: 0, type: "scroll" },
        xAxis: axisLook({ type: "value", minInterval: 1, name: "epoch", nameLocation: "middle", nameGap: 24, scale: true, splitLine: { show: false } }), yAxis: axisLook({ type: "value", scale: true }),
        series: drawn().flatMap((fit, at) => [line(fit, at, `val_${what}`, { width: 2.5 }), line(fit, at, what, { width: 1, opacity: 0.6 })].filter((one) => one.data.some((/** @type {any} */ [, value]) => value !== null))),
      };
    },
  });
}
