/** Which hyperparameters matter: the share of the variance that each explains, with its interval. */

import { get } from "../api.js";
import { colours } from "../colours.js";
import { el } from "../html.js";
import { param, setParams } from "../view.js";
import { axisLook, Chart } from "./chart.js";

const OFS = /** @type {Record<string, string>} */ ({ validation_score: "for the score", fit_seconds: "for the seconds" });
const METHODS = /** @type {Record<string, string>} */ ({ exact: "Exact on the full grid", ped_anova: "By PED-ANOVA: what sets the best tenth apart" });
const EVERY_MS = 10000;

/** @param {string} id of the job @param {import("../store.js").Store} store */
export function makeImportance(id, store) {
  /** @type {any} */
  let found = null;
  let read = 0;
  const of = () => (param("of") in OFS ? param("of") : "validation_score");
  const load = async () => { found = await get(`v1/jobs/${id}/importance?of=${of()}`); chart.update(); };
  const choice = el("select", { "aria-label": "Importance for", onchange: () => { setParams({ of: choice.value === "validation_score" ? null : choice.value }); load(); } }, Object.entries(OFS).map(([value, text]) => el("option", { value }, text.replace("score", store.scoring))));
  choice.value = of();
  const percent = (/** @type {number|null} */ share) => (share === null ? "–" : `${Math.round(share * 100)}%`);
  const effects = () => [...(found?.importance ?? []), ...(found?.pairs ?? []).filter((/** @type {any} */ one) => one.share >= 0.01).map((/** @type {any} */ one) => ({ ...one, name: one.names.join(" with ") }))];
  const chart = new Chart({
    id: "importance", title: "Importance", height: "280px", controls: choice,
    sentence: () => {
      if (!found?.importance) return "";
      const [first] = found.importance;
      return `${first ? `${first.name} explains ${percent(first.share)} of the variance${first.low === null ? "" : ` (95%: ${percent(first.low)} to ${percent(first.high)})`}. ` : ""}${METHODS[found.method]}, from ${found.trials} trials${found.noise === null ? "" : `; ${percent(found.noise)} is scatter of the folds`}.`;
    },
    rows: () => ({ names: ["hyperparameter", "share", "low", "high"], rows: effects().map((one) => [one.name, one.share, one.low, one.high]) }),
    option: () => {
      if (!found) return "Not known yet.";
      if (!found.importance) return found.reason;
      const all = effects().reverse(), { accent, ink } = colours();
      return {
        grid: { left: 10, right: 24, top: 8, bottom: 34, containLabel: true },
        xAxis: axisLook({ type: "value", min: 0, max: 1, name: "share of the variance", nameLocation: "middle", nameGap: 22, axisLabel: { color: ink, formatter: (/** @type {number} */ value) => percent(value) } }),
        yAxis: axisLook({ type: "category", data: all.map((one) => one.name), axisLabel: { color: ink } }),
        series: [
          { id: "shares", type: "bar", barMaxWidth: 18, itemStyle: { color: accent, borderRadius: 2 }, data: all.map((one) => one.share),
            tooltip: { formatter: (/** @type {any} */ item) => `${all[item.dataIndex].name}\n${percent(all[item.dataIndex].share)}, 95%: ${percent(all[item.dataIndex].low)} to ${percent(all[item.dataIndex].high)}` } },
          { id: "intervals", type: "custom", silent: true, z: 4, encode: { x: [1, 2], y: 0 }, itemStyle: { color: ink }, renderItem: interval,
            data: all.flatMap((one, at) => (one.low === null ? [] : [[at, one.low, one.high]])) },
        ],
      };
    },
  });
  return Object.assign(chart, {
    /** Read it anew, not too often. @param {boolean} ended */
    refresh(ended) {
      if (!ended && Date.now() - read < EVERY_MS) return;
      read = Date.now();
      load();
    },
  });
}

/** A line from the low to the high end. @param {any} at @param {any} api */
function interval(at, api) {
  const low = api.coord([api.value(1), api.value(0)]), high = api.coord([api.value(2), api.value(0)]);
  return { type: "line", shape: { x1: low[0], y1: low[1], x2: high[0], y2: high[1] }, style: { stroke: api.visual("color"), lineWidth: 1.5 } };
}
