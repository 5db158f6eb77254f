/** A new job: a form or its JSON, with what the job would come to beside it. */

import { explain, get, post, Problem } from "../api.js";
import { count, duration, params } from "../format.js";
import { el, fill, say, table } from "../html.js";
import { JobForm } from "../parts/jobform.js";
import { findTrouble } from "../parts/trouble.js";
import { Tabs } from "../parts/tabs.js";
import { param } from "../view.js";

const START = { search: { strategy: "grid", param_grid: { learning_rate: [0.001, 0.01], num_neurons: [64, 128] } }, dataset: { name: "digits" }, fixed: { epochs: 5 }, evaluation: { cv: 3 } };
const PREVIEW_MS = 300;

/** @param {HTMLElement} main */
export async function show(main) {
  const from = param("from");
  const [datasets, models, cloned] = await Promise.all([get("v1/datasets"), get("v1/models"), from ? get(`v1/jobs/${encodeURIComponent(from)}`) : null]);
  const preview = el("div", { "aria-live": "polite" }), wrong = el("div", { role: "alert" }), jsonWrong = el("p.error", { role: "alert" }), trouble = el("div");
  const json = el("textarea", { rows: 30, "aria-label": "The job as JSON", spellcheck: "false", oninput: () => takeJson() });
  const start = el("button.primary.large", { onclick: () => submit() }, "Start the search");
  let timer = 0, asked = 0;
  const changed = () => {
    if (document.activeElement !== json) json.value = JSON.stringify(form.spec, null, 2);
    clearTimeout(timer);
    timer = setTimeout(look, PREVIEW_MS);
  };
  const form = new JobForm(datasets.items, models.items, changed);
  const takeJson = () => {
    try {
      form.write(JSON.parse(json.value));
      say(jsonWrong, "");
      changed();
    } catch (error) {
      say(jsonWrong, `This is not JSON: ${/** @type {Error} */ (error).message}`);
    }
  };
  const refuse = (/** @type {any} */ error) => {
    const others = form.showErrors(error.errors ?? []);
    const listed = error.errors?.length ? others : [explain(error)];
    fill(wrong, listed.length > 0 && el("div.notice", {}, listed.map((one) => el("p", {}, one))));
  };
  const look = async () => {
    const mine = ++asked;
    try {
      const found = await post("v1/preview", form.spec);
      if (mine !== asked) return;
      refuse({ errors: [] });
      fill(wrong);
      showPreview(preview, found);
      start.disabled = false;
    } catch (error) {
      if (mine !== asked) return;
      if (!(error instanceof Problem)) throw error;
      refuse(error);
      fill(preview, el("p.quiet", {}, "Not yet a job: see what is marked."));
    }
  };
  const submit = async () => {
    start.disabled = true;
    try {
      location.href = new URL(`jobs/${(await post("v1/jobs", form.spec)).id}`, document.baseURI).href;
    } catch (error) {
      start.disabled = false;
      refuse(error);
      form.node.querySelector("[aria-invalid=true]")?.focus();
    }
  };
  document.title = "New job – Tunewell";
  form.write(cloned ? cloned.spec : START);
  json.value = JSON.stringify(form.spec, null, 2);
  const tabs = new Tabs([["form", "Form", [form.node]], ["json", "JSON", [json, jsonWrong]]]);
  fill(main, el("h1", {}, cloned ? `New job like ${cloned.name ?? from.slice(0, 8)}` : "New job"), trouble,
    el("div.newjob", {}, tabs.node, el("aside.preview", { "aria-label": "What it would come to" }, el("h2", {}, "What it would come to"), preview, wrong, start)));
  look();
  fill(trouble, await findTrouble());
}

/** @param {Element} node @param {any} found of `/v1/preview` */
function showPreview(node, found) {
  const facts = /** @type {[string, any][]} */ ([
    ["Trials", found.trials.toLocaleString("en")], ["Fits", found.fits.toLocaleString("en")], ["Epochs", found.epochs.toLocaleString("en")],
    ["Multiply-adds", found.multiply_adds.toExponential(1)],
    ["Time on one worker", found.seconds ? (found.seconds.low === found.seconds.high ? `about ${duration(found.seconds.low)}` : `${duration(found.seconds.low)} to ${duration(found.seconds.high)}`) : "not known before a first job"],
  ]);
  if (found.cached_fits) facts.push(["Trained before", count(found.cached_fits, "fit")]);
  if (found.duplicates) facts.push(["Duplicates", String(found.duplicates)]);
  if (found.skipped) facts.push(["Forbidden points", String(found.skipped)]);
  const supports = found.supports.flatMap((/** @type {any} */ one) => Object.entries(one));
  fill(node, el("dl.facts", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    found.rungs.length > 0 && table("Rungs", ["Bracket", "Rung", "Resources", "Candidates"], found.rungs.map((/** @type {any} */ one) => [one.bracket, one.iter, one.n_resources, one.n_candidates])),
    supports.length > 0 && [el("h3", {}, "Drawn from"), el("dl.facts", {}, supports.map((/** @type {any} */ [name, text]) => [el("dt", {}, name), el("dd", {}, text)]))],
    el("h3", {}, "First candidates"), el("ol.first10", { start: 0 }, found.first.map((/** @type {any} */ one) => el("li", {}, params(one)))));
}
