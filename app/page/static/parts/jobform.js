/** The form of a job and the job as JSON: two views of one object, of which the form changes what it knows. */

import { el, fill } from "../html.js";
import { formatLabels, readLabels } from "./edit.js";
import { Hyperparameter } from "./hyperparameter.js";

const STRATEGIES = { grid: "grid: every point", random: "random draws", tpe: "TPE: learns from earlier trials", halving_grid: "successive halving of a grid", halving_random: "successive halving of random draws", hyperband: "hyperband" };
const COUNTED = ["random", "tpe"];
const STAGED = ["halving_grid", "halving_random", "hyperband"];
/** The model's choice that stands for a list of layers, which the form does not show, and what the form has of it. */
const OWN = "own network, see JSON";
const TRAINING = ["learning_rate", "optimizer", "momentum", "weight_decay", "batch_size", "epochs"];

/** The field of the space. @param {string} strategy */
export const spaceOf = (strategy) => (strategy.endsWith("grid") ? "param_grid" : "param_distributions");

export class JobForm {
  /** @param {any[]} datasets @param {any[]} models @param {() => void} changed */
  constructor(datasets, models, changed) {
    this.models = models;
    this.changed = () => { this.spec = this.read(); changed(); };
    /** @type {any} */ this.spec = {};
    const select = (/** @type {string} */ name, /** @type {[string, string][]} */ options) => el("select", { id: name, onchange: this.changed }, options.map(([value, text]) => el("option", { value }, text)));
    const number = (/** @type {string} */ name, /** @type {any} */ more = {}) => el("input", { id: name, type: "number", step: "any", oninput: this.changed, ...more });
    const text = (/** @type {string} */ name, /** @type {any} */ more = {}) => el("input", { id: name, oninput: this.changed, ...more });
    this.name = text("name", { placeholder: "none" });
    this.labels = text("labels", { placeholder: "team: vision, sprint: 12" });
    this.dataset = select("dataset", datasets.map((one) => [one.name, `${one.name}, ${one.train_samples.toLocaleString("en")} samples`]));
    this.samples = number("samples", { placeholder: "all" });
    this.model = select("model", models.map((one) => [one.name, one.name]));
    this.model.addEventListener("change", () => this.changeModel());
    this.strategy = select("strategy", Object.entries(STRATEGIES));
    this.draws = number("draws");
    this.factor = number("factor");
    this.folds = number("folds");
    this.refit = el("input", { id: "refit", type: "checkbox", onchange: this.changed });
    this.race = select("race", [["", "none"], ["lossless", "lossless: the same winner"], ["bootstrap", "bootstrap: faster"]]);
    this.seed = number("seed");
    this.parallel = number("parallel", { placeholder: "any number" });
    this.timeout = number("timeout");
    this.body = el("tbody");
    this.node = el("form.jobform", { onsubmit: (/** @type {Event} */ event) => event.preventDefault() }, this.layOut());
  }

  layOut() {
    const field = (/** @type {string} */ label, /** @type {any} */ input, /** @type {string} */ pointer, hint = "") => {
      const error = el("span.error", { id: `${input.id}-error` });
      input.setAttribute("aria-describedby", error.id);
      return el("div.field", { "data-pointer": pointer }, el("label", { for: input.id }, label), input, hint && el("span.quiet", {}, hint), error);
    };
    this.drawsField = field("Trials", this.draws, "/search/n_iter");
    this.factorField = field("Factor", this.factor, "/search/factor", "each rung keeps one in so many");
    return [
      el("fieldset", {}, el("legend", {}, "What"), field("Name", this.name, "/name"), field("Labels", this.labels, "/labels"), field("Data set", this.dataset, "/dataset/name"), field("Training samples", this.samples, "/dataset/train_samples"), field("Model", this.model, "/model")),
      el("fieldset", {}, el("legend", {}, "Search"), field("Strategy", this.strategy, "/search/strategy"), this.drawsField, this.factorField,
        el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Hyperparameters" }, el("table.space", {}, el("thead", {}, el("tr", {}, ["Hyperparameter", "Is", "Values"].map((one) => el("th", { scope: "col" }, one)))), this.body))),
      el("fieldset", {}, el("legend", {}, "Evaluation and limits"), field("Folds", this.folds, "/evaluation/cv"), field("Race", this.race, "/evaluation/race", "folds that cannot win are not trained"), field("Refit the best", this.refit, "/evaluation/refit"), field("Random state", this.seed, "/random_state"),
        field("Fits at the same time", this.parallel, "/limits/max_parallel_fits"), field("Seconds for a fit", this.timeout, "/limits/fit_timeout_seconds")),
    ];
  }

  /** Show a job. @param {any} spec */
  write(spec) {
    this.spec = spec;
    const { search = {}, evaluation = {}, limits = {}, fixed = {} } = spec, strategy = search.strategy ?? "grid";
    this.name.value = spec.name ?? "";
    this.labels.value = formatLabels(spec.labels);
    this.dataset.value = spec.dataset?.name ?? "mnist";
    this.samples.value = spec.dataset?.train_samples ?? "";
    this.own = typeof spec.model === "object" && spec.model !== null;
    this.model.replaceChildren(...[...this.models.map((one) => one.name), ...(this.own ? [OWN] : [])].map((value) => el("option", { value }, value)));
    this.model.value = this.own ? OWN : (spec.model ?? this.models[0].name);
    this.strategy.value = strategy;
    this.draws.value = search.n_iter ?? 10;
    this.factor.value = search.factor ?? 3;
    this.folds.value = evaluation.cv ?? (evaluation.validation_split ? "" : 3);
    this.refit.checked = evaluation.refit ?? true;
    this.race.value = evaluation.race?.method ?? "";
    this.seed.value = spec.random_state ?? 0;
    this.parallel.value = limits.max_parallel_fits ?? "";
    this.timeout.value = limits.fit_timeout_seconds ?? 3600;
    const space = [search[spaceOf(strategy)] ?? {}].flat()[0] ?? {};
    this.rows = this.listHyperparameters().map((/** @type {any} */ about) => {
      const row = new Hyperparameter(about, this.changed);
      row.write(fixed[about.name], space[about.name]);
      return row;
    });
    fill(this.body, this.rows.map((/** @type {Hyperparameter} */ row) => row.node));
    this.showFields();
  }

  /** Those of the model; of an own network those of training. @returns {any[]} */
  listHyperparameters() {
    const model = this.models.find((one) => one.name === this.model.value) ?? this.models[0];
    return this.own ? model.hyperparameters.filter((/** @type {any} */ one) => TRAINING.includes(one.name)) : model.hyperparameters;
  }

  /** Another model has other hyperparameters: those that it does not have are no longer in the job. */
  changeModel() {
    this.own = false;
    const names = this.listHyperparameters().map((/** @type {any} */ one) => one.name);
    const keep = (/** @type {any} */ object) => Object.fromEntries(Object.entries(object).filter(([name]) => names.includes(name)));
    const spec = this.read(), space = spaceOf(spec.search.strategy);
    this.write({ ...spec, fixed: keep(spec.fixed), search: { ...spec.search, [space]: [spec.search[space]].flat().map(keep)[0] } });
    this.changed();
  }

  showFields() {
    const strategy = this.strategy.value;
    this.drawsField.hidden = !COUNTED.includes(strategy);
    this.factorField.hidden = !STAGED.includes(strategy);
    this.rows.forEach((/** @type {Hyperparameter} */ row) => row.allowRange(!strategy.endsWith("grid")));
  }

  /** The job as the form has it; what the form does not know stays as it was. @returns {any} */
  read() {
    this.showFields();
    const number = (/** @type {any} */ input, /** @type {any} */ otherwise) => (input.value === "" ? otherwise : Number(input.value));
    const { search = {}, evaluation = {}, limits = {}, ...rest } = this.spec, strategy = this.strategy.value, space = spaceOf(strategy);
    const unknown = (/** @type {any} */ object) => Object.fromEntries(Object.entries(this.own ? (object ?? {}) : {}).filter(([name]) => !TRAINING.includes(name)));
    const fixed = unknown(this.spec.fixed), searched = unknown([search[space]].flat()[0]);
    for (const row of this.rows) {
      const read = row.read();
      if (read.fixed !== undefined) fixed[row.about.name] = read.fixed;
      if (read.searched !== undefined) searched[row.about.name] = read.searched;
    }
    const kept = search.strategy === strategy ? search : { strategy, ...(search.forbidden && { forbidden: search.forbidden }), ...(search.points_to_evaluate && { points_to_evaluate: search.points_to_evaluate }) };
    const several = Array.isArray(search[space]) && search[space].length > 1;
    return {
      ...rest,
      name: this.name.value || null,
      labels: readLabels(this.labels.value),
      dataset: { ...rest.dataset, name: this.dataset.value, train_samples: number(this.samples, null) },
      model: this.own ? rest.model : this.model.value,
      search: { ...kept, [space]: several ? search[space] : searched, ...(COUNTED.includes(strategy) && { n_iter: number(this.draws, 10) }), ...(STAGED.includes(strategy) && { factor: number(this.factor, 3) }) },
      fixed,
      evaluation: { ...(this.folds.value === "" ? { validation_split: evaluation.validation_split ?? 0.1 } : { ...omit(evaluation, "validation_split"), cv: Number(this.folds.value), race: this.race.value ? { ...(evaluation.race?.method === this.race.value && evaluation.race), method: this.race.value } : null }), refit: this.refit.checked },
      random_state: number(this.seed, 0),
      limits: { ...limits, max_parallel_fits: number(this.parallel, null), fit_timeout_seconds: number(this.timeout, 3600) },
    };
  }

  /** Show errors at their fields. @param {{pointer: string, message: string}[]} errors @returns {string[]} those of no field */
  showErrors(errors) {
    const fields = [...this.node.querySelectorAll("[data-pointer]")];
    fields.forEach((field) => { fill(field.querySelector(".error")); field.querySelector("input, select").removeAttribute("aria-invalid"); });
    this.rows.forEach((/** @type {Hyperparameter} */ row) => { row.node.querySelectorAll(".error").forEach((/** @type {Element} */ one) => one.remove()); row.mode.removeAttribute("aria-invalid"); });
    return errors.flatMap(({ pointer, message }) => {
      const within = (/** @type {string} */ place) => pointer === place || pointer.startsWith(`${place}/`);
      const row = this.rows.find((/** @type {Hyperparameter} */ one) => one.pointers(spaceOf(this.strategy.value)).some(within));
      const field = fields.find((one) => within(/** @type {HTMLElement} */ (one).dataset.pointer ?? ""));
      if (row) {
        row.mode.setAttribute("aria-invalid", "true");
        row.inputs.after(el("p.error", {}, message));
      } else if (field) {
        field.querySelector("input, select").setAttribute("aria-invalid", "true");
        fill(field.querySelector(".error"), message);
      } else return [`${pointer} ${message}`.trim()];
      return [];
    });
  }
}

/** @param {any} object @param {string} name */
function omit(object, name) {
  const { [name]: _, ...rest } = object;
  return rest;
}
