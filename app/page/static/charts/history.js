/** Scores by trial, with the deviation over the folds and the best so far. */

import { colours } from "../colours.js";
import { accuracy, capital, count, params } from "../format.js";
import { axisLook, Chart } from "./chart.js";
import { describeTrial, pointMarks, pointSeries, scoreAxis, trialRows } from "./points.js";

const MAX_WHISKERS = 300;

/** @param {import("../store.js").Store} store @param {(number: number) => void} open */
export function makeHistory(store, open) {
  const place = (/** @type {number} */ one) => [one, store.score[one]];
  const bests = () => {
    let best = -Infinity;
    return store.scored().map((one) => [one, (best = Math.max(best, /** @type {number} */ (store.score[one])))]);
  };
  return new Chart({
    id: "history", title: `${capital(store.scoring)} by trial`, zooms: true, open, pick: (one) => store.pick(one),
    trials: () => store.scored(), describe: (one) => describeTrial(store, one).replaceAll("\n", ", "),
    rows: () => trialRows(store, store.selected), marks: () => pointMarks(store, place),
    sentence: () => {
      const scored = store.scored(), best = store.ranked.find((one) => store.chosen.has(one));
      const missing = store.describeMissing();
      if (best === undefined) return `No trial has a score yet${missing && ` (${missing})`}.`;
      return `${count(scored.length, "trial")}, best ${accuracy(store.score[best])}: trial ${best} with ${params(store.paramsOf(best))}.${missing && ` Not in the charts: ${missing}.`}`;
    },
    option: () => {
      if (!store.scored().length) return "Nothing to draw yet.";
      const { accent, quiet, bad } = colours();
      const failed = store.selected.filter((one) => store.state[one] === "failed");
      const scored = store.scored();
      const floor = scored.reduce((low, one) => Math.min(low, /** @type {number} */ (store.score[one])), 1);
      const whiskers = scored.length <= MAX_WHISKERS ? scored.filter((one) => store.std[one]) : [];
      return {
        grid: { left: 56, right: 20, top: 30, bottom: 34 },
        xAxis: axisLook({ type: "value", name: "trial", nameLocation: "middle", nameGap: 22, minInterval: 1, min: 0, max: Math.max(store.size - 1, 1), splitLine: { show: false } }),
        yAxis: scoreAxis(`validation ${store.scoring}`),
        series: [
          ...pointSeries(store, place),
          { id: "whiskers", type: "custom", silent: true, z: 2, itemStyle: { color: quiet }, encode: { x: 0, y: [1, 2] }, renderItem: whisker,
            data: whiskers.map((one) => [one, /** @type {number} */ (store.score[one]) - /** @type {number} */ (store.std[one]), /** @type {number} */ (store.score[one]) + /** @type {number} */ (store.std[one])]) },
          { id: "best", type: "line", step: "end", data: bests(), showSymbol: false, silent: true, lineStyle: { color: accent, width: 1.5 }, z: 2 },
          { id: "failed", type: "scatter", symbol: "path://M0 0L10 10M10 0L0 10", symbolSize: 8, itemStyle: { color: "transparent", borderColor: bad, borderWidth: 1.5 }, z: 4,
            tooltip: { formatter: (/** @type {any} */ item) => describeTrial(store, item.data.trial) },
            data: failed.map((one) => ({ value: [one, floor], trial: one })) },
        ],
      };
    },
  });
}

/** A vertical line from one deviation below to one above. @param {any} at @param {any} api */
function whisker(at, api) {
  const low = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)]);
  return { type: "line", shape: { x1: low[0], y1: low[1], x2: high[0], y2: high[1] }, style: { stroke: api.visual("color"), lineWidth: 1, opacity: 0.6 } };
}
