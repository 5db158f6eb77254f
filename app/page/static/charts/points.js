/** What charts of one point per trial share. */

import { colours, scaleColour } from "../colours.js";
import { accuracy, duration, params } from "../format.js";
import { axisLook } from "./chart.js";

const MANY = 2000;

/** @typedef {import("../store.js").Store} Store */

/** One trial in words, over several lines. @param {Store} store @param {number} number */
export function describeTrial(store, number) {
  const std = store.std[number], seconds = store.seconds[number];
  const lines = [`Trial ${number} ${store.state[number]}${store.rank[number] ? `, rank ${store.rank[number]}` : ""}`,
    `${store.scoring} ${accuracy(store.score[number])}${std === null || std === undefined ? "" : ` ± ${std.toFixed(4)}`}`,
    ...Object.entries(store.paramsOf(number)).map(([name, value]) => params({ [name]: value })),
    seconds === null || seconds === undefined ? "" : `trained ${duration(seconds)}`];
  return lines.filter(Boolean).join("\n");
}

/** Lowest and highest score of what is drawn, with some room. @param {Store} store */
export function scoreSpan(store) {
  let [low, high] = [Infinity, -Infinity];
  for (const one of store.selected) {
    const score = store.score[one];
    if (score !== null) [low, high] = [Math.min(low, score), Math.max(high, score)];
  }
  return low <= high ? [low, high] : [0, 1];
}

/**
 * Series of points: those that are selected in the colour of their score, the others faint.
 * @param {Store} store @param {(number: number) => any} place where a trial is, [x, y]
 */
export function pointSeries(store, place) {
  const { quiet } = colours();
  const [low, high] = scoreSpan(store);
  const point = (/** @type {number} */ number, /** @type {any} */ more) => ({ value: place(number), trial: number, ...more });
  const rest = store.numbers().filter((one) => store.score[one] !== null && !store.chosen.has(one));
  const scored = store.scored();
  const size = scored.length > MANY ? 4 : scored.length > 300 ? 6 : 9;
  const shade = (/** @type {number} */ one) => ({ itemStyle: { color: scaleColour(high > low ? (/** @type {number} */ (store.score[one]) - low) / (high - low) : 1) } });
  const tooltip = { formatter: (/** @type {any} */ item) => describeTrial(store, item.data.trial) };
  return [
    { id: "rest", type: "scatter", progressive: 0, data: rest.map((one) => point(one, {})), symbolSize: size * 0.7, itemStyle: { color: quiet, opacity: 0.25 }, tooltip, z: 1 },
    { id: "selected", type: "scatter", progressive: 0, data: scored.map((one) => point(one, shade(one))), symbolSize: size, tooltip, z: 3 },
  ];
}

/** Rings around the picked trials. @param {Store} store @param {(number: number) => any} place */
export function pointMarks(store, place) {
  const { ink } = colours();
  return [{
    id: "picked", type: "scatter", symbol: "circle", symbolSize: 16, silent: true, z: 5,
    itemStyle: { color: "transparent", borderColor: ink, borderWidth: 2 },
    data: [...store.picked].filter((one) => (store.score[one] ?? null) !== null).map((one) => ({ value: place(one), trial: one })),
  }];
}

/** @param {string} name */
export const scoreAxis = (name) => axisLook({ type: "value", scale: true, name, nameLocation: "end", nameTextStyle: { align: "left", color: colours().quiet } });

/** Columns of every chart's table of trials. @param {Store} store @param {number[]} trials */
export function trialRows(store, trials) {
  const names = [...store.axes.keys()];
  return {
    names: ["trial", "state", store.scoring, "deviation", "seconds", ...names],
    rows: trials.map((one) => [one, store.state[one], store.score[one], store.std[one], store.seconds[one], ...names.map((name) => store.params[name][one])]),
  };
}
