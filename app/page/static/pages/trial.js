/** One trial: hyperparameters, folds, learning curves, what went wrong, and its neighbours. */

import { explain, get, getIfChanged, readTable } from "../api.js";
import { makeCurves } from "../charts/curves.js";
import { ENDED, accuracy, capital, duration, scoringOf, short, title } from "../format.js";
import { el, fill } from "../html.js";
import { follow } from "../live.js";
import { stateMark } from "../parts/state.js";
import { Store } from "../store.js";

const MAX_NEIGHBOURS = 20;

/** @param {HTMLElement} main @param {any} connection @param {string} id @param {string} number */
export async function show(main, connection, id, number) {
  const path = `v1/jobs/${encodeURIComponent(id)}`;
  const [{ value: job, tag }, first] = await Promise.all([/** @type {Promise<any>} */ (getIfChanged(path, "")), get(`${path}/trials/${encodeURIComponent(number)}`)]);
  let trial = first;
  document.title = `Trial ${trial.number} of ${title(job)} – Tunewell`;
  const head = el("div"), folds = el("div"), error = el("div"), neighbours = el("div");
  const curves = [makeCurves(() => trial.fits, "accuracy"), makeCurves(() => trial.fits, "loss")];
  fill(/** @type {any} */ (document.getElementById("crumbs")), el("a", { href: "." }, "Jobs"), " / ", el("a", { href: `jobs/${id}` }, title(job)), ` / trial ${trial.number}`);
  const link = (/** @type {number} */ other, /** @type {string} */ text) => other >= 0 && other < job.trials.total && el("a.button", { href: `jobs/${id}/trials/${other}` }, text);
  fill(main, el("div.heading", {}, el("h1", {}, `Trial ${trial.number}`), el("span.grow"), el("div.buttons", {}, link(trial.number - 1, "Previous"), link(trial.number + 1, "Next"))),
    head, error, el("h2", {}, "Folds"), folds, el("h2", {}, "Learning curves"), el("div.columns2", {}, curves.map((chart) => chart.node)), neighbours);
  const draw = () => {
    showHead(head, trial, job);
    showFolds(folds, trial, job);
    fill(error, trial.error && [el("p.notice", { role: "alert" }, `${trial.error.type}: ${trial.error.message}`), trial.error.traceback && el("details", { open: true }, el("summary", {}, "Traceback"), el("pre", { tabindex: 0 }, trial.error.traceback))]);
    curves.forEach((chart) => chart.update());
  };
  draw();
  if (job.trials.total > 1) showNeighbours(neighbours, job, trial, id).catch((wrong) => fill(neighbours, el("p.error", {}, explain(wrong))));
  const look = follow(`${path}/trials/${encodeURIComponent(number)}`, async (now) => {
    trial = now;
    draw();
    return ENDED.includes((await get(path)).state);
  }, connection, {
    path: () => `${path}/events?trial=${trial.number}&since=${tag.replaceAll('"', "")}`,
    on: { epochs: () => look(), trials: (/** @type {any} */ columns) => { if (columns.number.includes(trial.number)) look(); } },
  });
}

/** @param {Element} node @param {any} trial @param {any} job */
function showHead(node, trial, job) {
  const facts = /** @type {[string, any][]} */ ([["State", stateMark(trial.state)], [`Validation ${scoringOf(job)}`, [el("b", {}, accuracy(trial.validation_score)), ` ± ${accuracy(trial.validation_score_std)}`]], ["Rank", trial.rank ? `${trial.rank} of ${job.trials.total}` : "–"], ["Seconds of training", duration(trial.fit_seconds)]]);
  if (trial.n_resources) facts.push(["Reached", `rung ${trial.iter} with ${trial.n_resources} ${job.spec.search.resource ?? "resources"}`]);
  fill(node, el("dl.facts", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]), Object.entries(trial.params).map(([name, value]) => [el("dt", {}, name), el("dd", {}, short(value))])));
}

/** @param {Element} node @param {any} trial @param {any} job */
function showFolds(node, trial, job) {
  const staged = trial.fits.some((/** @type {any} */ fit) => fit.n_resources);
  const names = ["Fold", ...(staged ? ["Resources"] : []), "State", capital(scoringOf(job)), "Loss", "Epochs", "Seconds", "Attempt", "Worker", "Note"];
  const note = (/** @type {any} */ fit) => [fit.cached && "equal fit reused", fit.resumed_from && `from the checkpoint of epoch ${fit.resumed_from}`, fit.error && `${fit.error.type}: ${fit.error.message}`].filter(Boolean).join("; ");
  fill(node, el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Folds" }, el("table", {}, el("thead", {}, el("tr", {}, names.map((one) => el("th", { scope: "col" }, one)))),
    el("tbody", {}, trial.fits.map((/** @type {any} */ fit) => el("tr", {}, el("td", {}, fit.fold ?? "refit"), staged && el("td", {}, fit.n_resources ?? "–"), el("td", {}, stateMark(fit.state)), el("td.num", {}, accuracy(fit.score)), el("td.num", {}, accuracy(fit.loss)),
      el("td.num", {}, fit.history.length), el("td.num", {}, duration(fit.fit_seconds)), el("td.num", {}, fit.attempt), el("td", {}, fit.worker ?? "–"), el("td", {}, note(fit))))))));
}

/** Trials that differ in one hyperparameter. @param {Element} node @param {any} job @param {any} trial @param {string} id */
async function showNeighbours(node, job, trial, id) {
  const store = new Store();
  store.job = job;
  store.merge(await readTable(id, 0));
  const names = [...store.axes.keys()];
  const found = store.numbers().flatMap((one) => {
    const differ = names.filter((name) => store.params[name][one] !== store.params[name][trial.number]);
    return one !== trial.number && differ.length === 1 ? [{ one, name: differ[0] }] : [];
  });
  if (!found.length) return;
  const difference = (/** @type {number} */ one) => (store.score[one] === null || trial.validation_score === null ? null : /** @type {number} */ (store.score[one]) - trial.validation_score);
  found.sort((a, b) => (difference(b.one) ?? -9) - (difference(a.one) ?? -9));
  const write = (/** @type {number|null} */ value) => (value === null ? "–" : `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(4)}`);
  fill(node, el("h2", {}, "Neighbours: one hyperparameter differs"), el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Neighbours" }, el("table", {}, el("thead", {}, el("tr", {}, ["Trial", "Differs in", capital(store.scoring), "Difference"].map((one) => el("th", { scope: "col" }, one)))),
    el("tbody", {}, found.slice(0, MAX_NEIGHBOURS).map(({ one, name }) => el("tr", { "data-row": one }, el("td", {}, el("a", { href: `jobs/${id}/trials/${one}`, "data-open": true }, String(one))), el("td", {}, `${name} ${short(store.params[name][one])}`), el("td.num", {}, accuracy(store.score[one])), el("td.num", {}, write(difference(one)))))))));
}
