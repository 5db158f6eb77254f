/** Several jobs side by side: what differs between them, and what came of it. */

import { get, readTable } from "../api.js";
import { axisLook, Chart } from "../charts/chart.js";
import { makeEdf } from "../charts/plots.js";
import { scoreAxis } from "../charts/points.js";
import { colours } from "../colours.js";
import { accuracy, duration, params, scoringOf, title } from "../format.js";
import { el, fill } from "../html.js";
import { stateMark } from "../parts/state.js";
import { Store } from "../store.js";
import { param } from "../view.js";

const MAX_JOBS = 6;
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/** Leaves of an object by their paths. @param {any} value @param {string} [path] @returns {[string, string][]} */
function leaves(value, path = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[path, JSON.stringify(value)]];
  return Object.entries(value).flatMap(([name, one]) => leaves(one, path ? `${path}.${name}` : name));
}

/** @param {HTMLElement} main */
export async function show(main) {
  const ids = param("jobs").split(",").filter(Boolean).slice(0, MAX_JOBS);
  if (ids.length < 2) return fill(main, el("h1", {}, "Compare jobs"), el("p", {}, "Select two or more in the ", el("a", { href: "." }, "list of jobs"), "."));
  const sets = await Promise.all(ids.map(async (id) => {
    const [job, columns] = await Promise.all([get(`v1/jobs/${encodeURIComponent(id)}`), readTable(id, 0)]);
    const best = job.best ? await get(`v1/jobs/${id}/best`) : null, store = new Store();
    store.job = job;
    store.merge(columns);
    return { id, job, best, store, scores: () => /** @type {number[]} */ (store.ranked.map((one) => store.score[one])) };
  }));
  const names = sets.map(({ job, id }) => (sets.filter((one) => title(one.job) === title(job)).length > 1 ? `${title(job)} ${id.slice(0, 4)}` : title(job)));
  document.title = `${names.join(", ")} – Tunewell`;
  const edf = makeEdf(sets.map(({ scores }, at) => ({ name: names[at], scores })), shared(sets));
  const runs = makeRuns(sets, names);
  fill(main, el("h1", {}, "Compare jobs"), grid("What came of them", names, sets, outcomes(sets)), el("div.columns2", {}, runs.node, edf.node),
    el("h2", {}, "What differs between them"), grid("What differs", names, sets, differences(sets)));
  [edf, runs].forEach((chart) => chart.update());
}

/** What all of them are scored by, or just "score". @param {any[]} sets @returns {string} */
function shared(sets) {
  const scorings = new Set(sets.map(({ job }) => scoringOf(job)));
  return scorings.size === 1 ? [...scorings][0] : "score";
}

/** @param {any[]} sets @returns {[string, any[]][]} */
function outcomes(sets) {
  const seconds = (/** @type {any} */ job) => (job.started_at && job.ended_at ? (Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000 : null);
  const named = (/** @type {any} */ job) => (shared(sets) === "score" ? ` ${scoringOf(job)}` : "");
  const interval = (/** @type {any} */ job, /** @type {any} */ test) => (scoringOf(job) === "accuracy" ? `, ${test.accuracy_ci95.map(accuracy).join(" to ")}` : "");
  return [
    ["State", sets.map(({ job }) => stateMark(job.state))],
    [`Best validation ${shared(sets)}`, sets.map(({ job, best }) => (best ? [el("b", {}, accuracy(best.validation.mean_score)), ` ± ${best.validation.std_score.toFixed(4)}${named(job)}`] : "–"))],
    ["with", sets.map(({ best }) => (best ? params(best.params) : "–"))],
    [`Test ${shared(sets)}${sets.some(({ job }) => scoringOf(job) === "accuracy") ? ", 95% interval" : ""}`, sets.map(({ job, best }) => (best?.test ? `${accuracy(best.test.score)}${interval(job, best.test)}${named(job)}` : "–"))],
    ["Trials: succeeded, failed, pruned", sets.map(({ job }) => `${job.trials.succeeded}, ${job.trials.failed}, ${job.trials.pruned}`)],
    ["From start to end", sets.map(({ job }) => duration(seconds(job)))],
    ["Seconds of training", sets.map(({ store }) => duration(store.seconds.reduce((/** @type {number} */ sum, /** @type {number|null} */ one) => sum + (one ?? 0), 0)))],
    ["Epochs trained", sets.map(({ job }) => job.epochs_trained.toLocaleString("en"))],
  ];
}

/** @param {any[]} sets @returns {[string, any[]][]} */
function differences(sets) {
  const specs = sets.map(({ job }) => new Map(leaves(job.spec)));
  const paths = [...new Set(specs.flatMap((spec) => [...spec.keys()]))];
  return paths.filter((path) => path !== "name" && new Set(specs.map((spec) => spec.get(path))).size > 1).map((path) => [path, specs.map((spec) => spec.get(path) ?? "–")]);
}

/** @param {string} caption @param {string[]} names @param {any[]} sets @param {[string, any[]][]} rows */
const grid = (caption, names, sets, rows) => (rows.length ? el("div.scroll", { tabindex: 0, role: "region", "aria-label": caption }, el("table", {},
  el("thead", {}, el("tr", {}, el("td"), names.map((name, at) => el("th", { scope: "col" }, el("a", { href: `jobs/${sets[at].id}` }, name))))),
  el("tbody", {}, rows.map(([name, cells]) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", {}, cell))))))) : el("p.quiet", {}, "Nothing: they were posted alike."));

/** Best so far against the seconds of training spent. @param {any[]} sets @param {string[]} names */
function makeRuns(sets, names) {
  const steps = (/** @type {Store} */ store) => {
    let [spent, best] = [0, -Infinity];
    return store.numbers().filter((one) => store.score[one] !== null).map((one) => [(spent += store.seconds[one] ?? 0), (best = Math.max(best, /** @type {number} */ (store.score[one])))]);
  };
  return new Chart({
    id: "runs", title: "Best so far against seconds of training", zooms: true,
    sentence: () => sets.map(({ store }, at) => { const all = steps(store), last = all[all.length - 1]; return last ? `${names[at]}: ${accuracy(last[1])} after ${duration(last[0])}.` : `${names[at]}: nothing yet.`; }).join(" "),
    rows: () => ({ names: ["job", "seconds", "best so far"], rows: sets.flatMap(({ store }, at) => steps(store).map((step) => [names[at], ...step])) }),
    option: () => ({
      grid: { left: 56, right: 20, top: 40, bottom: 40 }, legend: { top: 0, textStyle: { color: colours().ink } }, color: COLOURS,
      xAxis: axisLook({ type: "value", name: "seconds, in the order of trials", nameLocation: "middle", nameGap: 24 }), yAxis: scoreAxis(`validation ${shared(sets)}`),
      series: sets.map(({ store }, at) => ({ id: `run-${at}`, name: names[at], type: "line", step: "end", showSymbol: false, lineStyle: { type: ["solid", "dashed", "dotted"][at % 3] }, data: steps(store) })),
    }),
  });
}
