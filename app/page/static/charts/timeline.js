/** Who trained what and when: a lane for each worker, lost attempts hatched. */

import { colours, stateColour } from "../colours.js";
import { count, duration } from "../format.js";
import { axisLook, Chart } from "./chart.js";

const LOST = ["lost", "hung", "timed_out", "out_of_memory"];

/** @param {import("../attempts.js").Attempts} attempts @param {(number: number) => void} open */
export function makeTimeline(attempts, open) {
  const lanes = () => [...new Set(attempts.list().map((one) => one.worker))].sort();
  const what = (/** @type {import("../attempts.js").Attempt} */ one) => `trial ${one.trial ?? "?"}, ${one.fold === null ? "refit" : `fold ${one.fold}`}, attempt ${one.attempt}`;
  const seconds = (/** @type {import("../attempts.js").Attempt} */ one) => ((one.end ?? Date.now()) - one.start) / 1000;
  return new Chart({
    id: "timeline", title: "Workers", zooms: true, height: "360px", open,
    sentence: () => {
      const all = attempts.list(), lost = all.filter((one) => LOST.includes(one.outcome ?? ""));
      if (!all.length) return "Nothing has been trained yet.";
      const first = Math.min(...all.map((one) => one.start)), last = all.reduce((end, one) => Math.max(end, one.end ?? Date.now()), 0);
      const busy = all.reduce((sum, one) => sum + seconds(one), 0) / ((last - first) / 1000 || 1) / lanes().length;
      return `${count(all.length, "attempt")} by ${count(lanes().length, "worker")}, busy ${Math.round(Math.min(busy, 1) * 100)}% of ${duration((last - first) / 1000)}${lost.length ? `; ${lost.length} lost and repeated` : ""}.`;
    },
    rows: () => ({ names: ["worker", "trial", "fold", "attempt", "outcome", "start", "seconds", "reason"], rows: attempts.list().map((one) => [one.worker, one.trial, one.fold ?? "refit", one.attempt, one.outcome ?? "running", new Date(one.start).toISOString(), seconds(one), one.reason]) }),
    option: () => {
      const all = attempts.list(), names = lanes(), { panel, ink } = colours();
      if (!all.length) return "Nothing has been trained yet.";
      const first = all.reduce((low, one) => Math.min(low, one.start), Infinity);
      return {
        grid: { left: 16, right: 20, top: 20, bottom: 40, containLabel: true },
        xAxis: axisLook({ type: "value", min: 0, name: "seconds since the first attempt", nameLocation: "middle", nameGap: 26 }),
        yAxis: axisLook({ type: "category", data: names, axisLabel: { color: ink, width: 140, overflow: "truncate" } }),
        series: [{ id: "attempts", type: "custom", renderItem: drawBar, encode: { x: [1, 2], y: 0 }, clip: true,
          data: all.map((one) => ({ value: [names.indexOf(one.worker), (one.start - first) / 1000, ((one.end ?? Date.now()) - first) / 1000], trial: one.trial,
            itemStyle: { color: stateColour(one.outcome ?? "running"), borderColor: panel, ...(LOST.includes(one.outcome ?? "") && { decal: { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [3, 3], rotation: Math.PI / 4, color: panel } }) },
            text: `${what(one)}\n${one.outcome ?? "running"}, ${duration(seconds(one))}${one.reason ? `\n${one.reason}` : ""}` })),
          tooltip: { formatter: (/** @type {any} */ item) => item.data.text } }],
      };
    },
  });
}

/** A bar of at least a pixel in its lane. @param {any} at @param {any} api */
function drawBar(at, api) {
  const start = api.coord([api.value(1), api.value(0)]), end = api.coord([api.value(2), api.value(0)]), height = Math.min(api.size([0, 1])[1] * 0.7, 28);
  return { type: "rect", shape: { x: start[0], y: start[1] - height / 2, width: Math.max(end[0] - start[0], 1), height }, style: { ...api.style(), lineWidth: end[0] - start[0] > 4 ? 1 : 0 } };
}
