/** Rungs and races: how many candidates came how far, who was stopped where, and what that cost. */

import { colours, stateColour } from "../colours.js";
import { accuracy, count, duration } from "../format.js";
import { axisLook, Chart } from "./chart.js";

const STATES = ["pruned", "failed", "cancelled", "running", "queued", "succeeded"];
const WORDS = /** @type {Record<string, string>} */ ({ pruned: "stopped here", succeeded: "went to the end", failed: "failed", cancelled: "cancelled", running: "in training", queued: "waits" });

/** Whether a job stops candidates early. @param {any} job */
export const stopsEarly = (job) => job.rungs.length > 0 || Boolean(job.spec.evaluation?.race) || job.trials.pruned > 0;

/** @param {import("../store.js").Store} store @param {import("../attempts.js").Attempts} attempts */
export function makeStops(store, attempts) {
  const staged = () => store.job.rungs.length > 0;
  const resource = () => store.job.spec.search?.resource ?? "epochs";
  /** Each step in order, with the trials that ended or stand there. */
  const steps = () => {
    const spent = attempts.byTrial(), found = new Map();
    for (const one of store.numbers()) {
      const { seconds = 0, folds = 0 } = spent.get(one) ?? {};
      const key = staged() ? [store.bracket[one], store.iter[one], store.resources[one] ?? 0] : [0, 0, folds];
      const step = found.get(key.join()) ?? { key, trials: /** @type {Record<string, number[]>} */ ({}), seconds: 0 };
      (step.trials[store.state[one]] ??= []).push(one);
      step.seconds += seconds;
      found.set(key.join(), step);
    }
    return [...found.values()].sort((a, b) => a.key[0] - b.key[0] || a.key[1] - b.key[1] || a.key[2] - b.key[2]);
  };
  const several = () => new Set(store.bracket).size > 1;
  const label = (/** @type {number[]} */ [bracket, iter, amount]) => (staged() ? `${several() ? `bracket ${bracket}, ` : ""}rung ${iter}: ${count(amount, resource().replace(/^n_|s$/g, ""))}` : count(amount, "fold"));
  return new Chart({
    id: "stops", title: "Who was stopped where", height: "340px",
    sentence: () => {
      const all = steps(), stopped = all.reduce((sum, one) => sum + (one.trials.pruned?.length ?? 0), 0), total = all.reduce((sum, one) => sum + one.seconds, 0);
      const lost = all.filter((one) => one.trials.pruned).map((one) => `${one.trials.pruned.length} after ${label(one.key)}`);
      const fits = store.job.fits;
      return `${stopped} of ${store.job.trials.total} candidates were stopped early${lost.length ? ` (${lost.join("; ")})` : ""}; ${fits.cancelled} of ${fits.total} fits were not trained. ${duration(total)} of training so far.`;
    },
    rows: () => {
      const spent = attempts.byTrial();
      return { names: ["trial", "state", "came to", "accuracy there", "seconds"], rows: store.numbers().map((one) => [one, store.state[one], label(staged() ? [store.bracket[one], store.iter[one], store.resources[one] ?? 0] : [0, 0, spent.get(one)?.folds ?? 0]), accuracy(store.score[one]), Math.round((spent.get(one)?.seconds ?? 0) * 100) / 100]) };
    },
    option: () => {
      const all = steps(), { ink, quiet } = colours();
      const states = STATES.filter((state) => all.some((one) => one.trials[state]));
      return {
        grid: { left: 16, right: 16, top: 50, bottom: 20, containLabel: true }, legend: { top: 0, textStyle: { color: ink } },
        xAxis: axisLook({ type: "category", data: all.map((one) => label(one.key)) }),
        yAxis: [axisLook({ type: "value", name: "candidates", minInterval: 1 }), axisLook({ type: "value", name: "seconds spent", splitLine: { show: false } })],
        series: [
          ...states.map((state) => ({ id: state, name: WORDS[state], type: "bar", stack: "trials", barMaxWidth: 60, itemStyle: { color: stateColour(state), ...(state === "pruned" && { decal: { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [2, 4], rotation: -Math.PI / 4, color: "rgba(0,0,0,0.25)" } }) },
            data: all.map((one) => ({ value: one.trials[state]?.length ?? 0, label: { show: Boolean(one.trials[state]) } })), label: { color: ink, position: "inside", backgroundColor: colours().panel, padding: [1, 4], borderRadius: 3 } })),
          { id: "seconds", name: "seconds spent", type: "line", yAxisIndex: 1, symbol: "diamond", symbolSize: 9, lineStyle: { width: 0 }, itemStyle: { color: quiet }, data: all.map((one) => Math.round(one.seconds * 100) / 100) },
        ],
      };
    },
  });
}
