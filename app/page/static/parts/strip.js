/** The head of a job: what it is, how far it is, what can be done with it, and what came out. */

import { explain, get, post, remove } from "../api.js";
import { ENDED, accuracy, age, count, duration, params, scoringOf, size, title } from "../format.js";
import { ask, copy, el, fill, say, toast } from "../html.js";
import { Progress, labelChips, stateMark } from "./state.js";
import { editJob } from "./edit.js";
import { findTrouble } from "./trouble.js";

const EXTENSIBLE = /** @type {Record<string, "n_iter"|"param_grid"|"max_resources">} */ ({ random: "n_iter", tpe: "n_iter", grid: "param_grid", halving_grid: "max_resources", halving_random: "max_resources" });
const EXPLAINED = { n_iter: "How many trials in all", param_grid: "The whole grid, the old points in it, as JSON", max_resources: "Resources of the last rung" };

export class Strip {
  /** @param {string} id @param {() => void} look @param {() => string} tag the job's ETag */
  constructor(id, look, tag) {
    [this.path, this.look, this.tag] = [`v1/jobs/${id}`, look, tag];
    this.id = id;
    this.name = el("h1");
    this.state = el("span");
    this.about = el("p.quiet");
    this.note = el("p.note");
    this.labels = el("span.chips");
    this.progress = new Progress();
    this.best = el("p.best");
    this.outcome = el("p.outcome");
    this.trouble = el("div");
    this.actions = el("div.buttons");
    this.node = el("section.strip", { "aria-label": "Job" },
      el("div.heading", {}, this.name, this.state, el("span.grow"), this.actions), this.about, this.note, this.progress.node, this.best, this.outcome, this.trouble);
  }

  /** @param {any} job */
  update(job) {
    this.job = job;
    say(this.name, title(job));
    document.title = `${ENDED.includes(job.state) ? job.state : `${Math.round(job.progress * 100)}%`} ${title(job)} – Tunewell`;
    const model = typeof job.spec.model === "string" ? job.spec.model : "own network";
    this.progress.update(job);
    say(this.note, job.note ?? "");
    if (this.labelled !== JSON.stringify(job.labels)) {
      this.labelled = JSON.stringify(job.labels);
      fill(this.labels, labelChips(job.labels));
    }
    fill(this.best, job.best && [el("span.quiet", {}, ENDED.includes(job.state) ? "Best " : "Best so far ", named(job)), el("b", {}, accuracy(job.best.validation_score)), " ",
      el("a", { href: `jobs/${this.id}/trials/${job.best.trial}` }, `trial ${job.best.trial}`), el("span.chips", {}, Object.entries(job.best.params).map(([name, value]) => el("span.chip", {}, params({ [name]: value }))))]);
    if (this.shown !== job.state + job.fits.failed) {
      this.shown = job.state + job.fits.failed;
      fill(this.state, stateMark(job.state));
      fill(this.about, `${size(job)} · ${job.spec.dataset?.name ?? "?"} · ${model} · posted ${age(job.created_at)}`, this.labels);
      fill(this.actions, this.makeActions(job));
      this.describeEnd(job);
      if (job.state === "queued") findTrouble().then((trouble) => fill(this.trouble, trouble));
      else fill(this.trouble);
    }
  }

  /** @param {any} job */
  makeActions(job) {
    const ended = ENDED.includes(job.state);
    const act = (/** @type {string} */ label, /** @type {string} */ name, /** @type {string} */ said) => el("button", { onclick: () => this.call(() => post(`${this.path}/${name}`), said) }, label);
    return [
      ["queued", "running"].includes(job.state) && act("Pause", "pause", "Paused: running fits are given back at no cost."),
      job.state === "paused" && act("Resume", "resume", "Goes on."),
      !ended && job.state !== "cancelling" && el("button.danger", { onclick: async () => (await ask("Stop this job? Its finished trials stay.", "Stop")) && this.call(() => post(`${this.path}/cancel`), "Stopping.") }, "Stop"),
      ended && job.fits.failed > 0 && act(`Retry ${count(job.fits.failed, "failed fit")}`, "retry", "The failed fits are trained again."),
      job.spec.search?.strategy in EXTENSIBLE && job.state !== "cancelling" && el("button", { onclick: () => this.extend(job) }, "Extend"),
      el("button", { onclick: () => editJob(this.path, this.tag(), this.job, this.look) }, "Edit"),
      el("a.button", { href: `new?from=${this.id}` }, "Clone"),
      el("a.button", { href: `${this.path}/results?format=csv`, download: `${title(job)}.csv` }, "Results CSV"),
      el("button", { onclick: () => copy(location.href), title: "Copy the address of this view" }, "Share"),
      ended && el("button.danger", { onclick: async () => (await ask("Delete this job with its trials? This cannot be undone.", "Delete")) && this.delete() }, "Delete"),
    ];
  }

  async delete() {
    try {
      await remove(this.path);
      location.href = document.baseURI;
    } catch (error) {
      toast(explain(error), "error");
    }
  }

  /** @param {() => Promise<any>} request @param {string} said */
  async call(request, said) {
    try {
      await request();
      toast(said);
    } catch (error) {
      toast(explain(error), "error");
    }
    this.look();
  }

  /** @param {any} job */
  extend(job) {
    const field = EXTENSIBLE[job.spec.search.strategy], was = job.spec.search[field];
    const wrong = el("p.error", { role: "alert" });
    const input = field === "param_grid" ? el("textarea", { rows: 8, "aria-label": EXPLAINED[field], value: JSON.stringify(was, null, 1) }) : el("input", { type: "number", "aria-label": EXPLAINED[field], value: typeof was === "number" ? was : "" });
    const send = async () => {
      try {
        await post(`${this.path}/extend`, { [field]: JSON.parse(input.value || "null") });
        dialog.close();
        toast("The search goes on.");
        this.look();
      } catch (error) {
        say(wrong, error instanceof SyntaxError ? `This is not JSON: ${error.message}` : explain(error));
        input.setAttribute("aria-invalid", "true");
      }
    };
    const dialog = el("dialog", { "aria-label": "Extend", onclose: () => dialog.remove() }, el("h2", {}, "Extend this search"),
      el("p", {}, `${EXPLAINED[field]}: the same rows as if it had been posted so.`), input, wrong,
      el("div.buttons", {}, el("button", { onclick: () => dialog.close() }, "Not now"), el("button.primary", { onclick: send }, "Extend")));
    document.body.append(dialog);
    dialog.showModal();
  }

  /** What came out, once it has ended. @param {any} job */
  async describeEnd(job) {
    if (!ENDED.includes(job.state)) return fill(this.outcome);
    const { trials } = job, others = ["failed", "pruned", "cancelled"].filter((state) => trials[state]).map((state) => `${trials[state]} ${state}`).join(", ");
    const said = [`${count(trials.succeeded, "trial")} of ${trials.total.toLocaleString("en")} succeeded${others && `, ${others}`}.`];
    if (job.error) said.push(`${job.error.type}: ${job.error.message}`);
    const best = job.best ? await get(`${this.path}/best`).catch(() => null) : null;
    if (best) {
      said.push(`Best ${named(job)}${accuracy(best.validation.mean_score)} ± ${best.validation.std_score.toFixed(4)}.`);
      if (best.tied?.length) said.push(`${count(best.tied.length, "trial")} cannot be told from it.`);
      if (best.test) said.push(`Test ${named(job)}${accuracy(best.test.score)}${interval(job, best.test)} (${count(best.test.samples, "sample")}${best.refit_seconds === null ? "" : `, refit in ${duration(best.refit_seconds)}`}).`);
    }
    if (!job.reproducible) said.push(`Not reproducible: ${job.reproducible_because}.`);
    fill(this.outcome, said.join(" "));
    dispatchEvent(new CustomEvent("best", { detail: best }));
  }
}

/** The scoring's name before a score, unless it is the accuracy. @param {any} job */
const named = (job) => (scoringOf(job) === "accuracy" ? "" : `${scoringOf(job)} `);

/** The interval of an accuracy. @param {any} job @param {any} test */
const interval = (job, test) => (scoringOf(job) === "accuracy" ? `, 95% ${test.accuracy_ci95.map(accuracy).join(" to ")}` : "");
