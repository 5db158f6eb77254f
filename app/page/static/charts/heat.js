/** Heat map of two hyperparameters: mean over the rest; cells without a trial stay empty. */

import { colours } from "../colours.js";
import { accuracy, duration, short } from "../format.js";
import { setAxisFilter } from "../filters.js";
import { el } from "../html.js";
import { param, setParams } from "../view.js";
import { axisLook, Chart } from "./chart.js";

const BINS = 12;

/** @typedef {{label: string, low: any, high: any}} Bin */

/** The steps of an axis: its values, or as many equal parts. @param {import("../axes.js").Axis} axis @returns {Bin[]} */
export function binsOf(axis) {
  if (!axis.numeric || axis.choices.length) return axis.choices.map((value) => ({ label: short(value), low: value, high: value }));
  const [to, from] = axis.log ? [Math.log, Math.exp] : [(/** @type {number} */ one) => one, (/** @type {number} */ one) => one];
  const width = (to(axis.high) - to(axis.low)) / BINS;
  return Array.from({ length: BINS }, (_, at) => {
    const [low, high] = [from(to(axis.low) + at * width), at === BINS - 1 ? axis.high : from(to(axis.low) + (at + 1) * width)];
    return { label: `${short(Number(low.toPrecision(2)))}–${short(Number(high.toPrecision(2)))}`, low, high };
  });
}

/** @param {Bin[]} bins @param {any} value */
const binOf = (bins, value) => bins.findIndex((bin, at) => (typeof bin.low === "number" && typeof value === "number"
  ? value >= bin.low && (bin.low === bin.high ? value === bin.low : value < bin.high || (at === bins.length - 1 && value <= bin.high))
  : String(value) === String(bin.low)));

/** @param {import("../store.js").Store} store */
export function makeHeat(store) {
  const names = () => [...store.axes.keys()], colourings = () => [store.scoring, "rank", "seconds"];
  const chosen = () => ({ x: names().includes(param("x")) ? param("x") : names()[0], y: names().includes(param("y")) ? param("y") : names()[1], by: colourings().includes(param("by")) ? param("by") : store.scoring });
  const select = (/** @type {"x"|"y"|"by"} */ key, /** @type {string[]} */ options) => {
    const made = el("select", { "aria-label": { x: "Across", y: "Upwards", by: "Colour by" }[key], onchange: () => { setParams({ [key]: made.value }); chart.update(); } });
    made.replaceChildren(...options.map((one) => el("option", { value: one }, one)));
    made.value = chosen()[key];
    return made;
  };
  const cells = () => {
    if (names().length < 2) return { across: [], upwards: [], cells: [] };
    const { x, y, by } = chosen(), across = binsOf(/** @type {any} */ (store.axes.get(x))), upwards = binsOf(/** @type {any} */ (store.axes.get(y)));
    const sums = new Map();
    for (const one of store.scored()) {
      const [i, j, value] = [binOf(across, store.params[x][one]), binOf(upwards, store.params[y][one]), store.valueOf(by, one)];
      if (i < 0 || j < 0 || value === null || value === undefined) continue;
      const cell = sums.get(`${i},${j}`) ?? { i, j, sum: 0, count: 0 };
      sums.set(`${i},${j}`, { ...cell, sum: cell.sum + value, count: cell.count + 1 });
    }
    return { across, upwards, cells: [...sums.values()].map((cell) => ({ ...cell, mean: cell.sum / cell.count })) };
  };
  const write = (/** @type {number} */ value) => ({ [store.scoring]: accuracy(value), rank: String(Math.round(value)), seconds: duration(value) })[chosen().by] ?? "";
  const better = () => (chosen().by === store.scoring ? 1 : -1);
  const chart = new Chart({
    id: "heat", title: "Two hyperparameters", height: "380px",
    controls: el("span.buttons", {}, select("x", names()), select("y", names()), select("by", colourings())),
    sentence: () => {
      const found = cells(), best = found.cells.sort((a, b) => better() * (b.mean - a.mean))[0], { x, y, by } = chosen();
      return best ? `Mean ${by} over all other hyperparameters; best at ${x} ${found.across[best.i].label}, ${y} ${found.upwards[best.j].label}: ${write(best.mean)} (${best.count} trials). Click a cell to select its trials.` : "No trial has a score yet.";
    },
    rows: () => { const { across, upwards, cells: all } = cells(), { x, y, by } = chosen(); return { names: [x, y, `mean ${by}`, "trials"], rows: all.map((one) => [across[one.i].label, upwards[one.j].label, one.mean, one.count]) }; },
    made: (made) => made.on("click", (/** @type {any} */ event) => {
      const { across, upwards } = cells(), { x, y } = chosen();
      const pick = (/** @type {string} */ name, /** @type {Bin} */ bin) => setAxisFilter(name, typeof bin.low === "number" ? { kind: "ranges", ranges: [[bin.low, bin.high]] } : { kind: "names", names: [String(bin.low)] });
      pick(x, across[event.value[0]]);
      pick(y, upwards[event.value[1]]);
      store.refilter();
    }),
    option: () => {
      if (names().length < 2) return "A heat map needs two searched hyperparameters.";
      const { across, upwards, cells: all } = cells(), { x, y } = chosen(), { scale, ink, panel } = colours();
      if (!all.length || x === y) return x === y ? "Choose two different hyperparameters." : "Nothing to draw yet.";
      const means = all.map((one) => one.mean);
      return {
        grid: { left: 90, right: 80, top: 20, bottom: 56 },
        xAxis: axisLook({ type: "category", data: across.map((one) => one.label), name: x, nameLocation: "middle", nameGap: 34 }),
        yAxis: axisLook({ type: "category", data: upwards.map((one) => one.label), name: y, nameLocation: "end" }),
        visualMap: { min: Math.min(...means), max: Math.max(...means) || 1, calculable: false, right: 0, top: "middle", itemHeight: 160, text: [write(Math.max(...means)), write(Math.min(...means))], textStyle: { color: ink }, inRange: { color: better() > 0 ? scale : [...scale].reverse() } },
        series: [{ id: "cells", type: "heatmap", itemStyle: { borderColor: panel, borderWidth: 1 }, data: all.map((one) => ({ value: [one.i, one.j, one.mean], count: one.count })),
          label: { show: all.length <= 60, formatter: (/** @type {any} */ item) => write(item.value[2]), fontSize: 11 },
          tooltip: { formatter: (/** @type {any} */ item) => `${x} ${across[item.value[0]].label}\n${y} ${upwards[item.value[1]].label}\nmean ${write(item.value[2])} of ${item.data.count} trials` } }],
      };
    },
  });
  return chart;
}
