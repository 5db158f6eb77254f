/** Small pieces that several pages show: a state, a bar of progress, labels. */

import { ENDED, SIGNS, count, duration } from "../format.js";
import { el } from "../html.js";

/** A state as sign and word. @param {string} state */
export const stateMark = (state) => el(`span.state.${state}`, {}, el("span", { "aria-hidden": "true" }, SIGNS[state] ?? "?"), ` ${state}`);

const PARTS = ["succeeded", "failed", "pruned", "cancelled", "running"];

/** How far a job is: shares of the fits by state. */
export class Progress {
  constructor() {
    this.parts = PARTS.map((state) => el(`i.${state}`));
    this.words = el("span.quiet");
    this.bar = el("div.bar", { role: "progressbar", "aria-label": "Fits that have ended", "aria-valuemin": 0, "aria-valuemax": 100 }, this.parts);
    this.node = el("div.progress", {}, this.bar, this.words);
  }

  /** @param {any} job */
  update(job) {
    const { fits } = job;
    PARTS.forEach((state, at) => this.parts[at].style.setProperty("width", `${(100 * (fits[state] ?? 0)) / fits.total}%`));
    this.bar.setAttribute("aria-valuenow", String(Math.round(100 * job.progress)));
    this.words.textContent = describeProgress(job);
  }
}

/** @param {any} job */
export function describeProgress(job) {
  const { fits } = job;
  if (ENDED.includes(job.state)) {
    const seconds = job.started_at ? (Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000 : null;
    return `${count(fits.succeeded, "fit")}${seconds === null ? "" : ` in ${duration(seconds)}`}`;
  }
  const left = job.eta_seconds === null || job.state === "paused" ? "" : `, about ${duration(job.eta_seconds)} left`;
  return `${fits.total - fits.queued - fits.running} of ${count(fits.total, "fit")}${left}`;
}

/** @param {Record<string, string>} labels @param {(label: string) => void} [pick] */
export const labelChips = (labels, pick) => Object.entries(labels ?? {}).map(([key, value]) =>
  pick ? el("button.chip", { title: "Only jobs with this label", onclick: () => pick(`${key}:${value}`) }, `${key}: ${value}`) : el("span.chip", {}, `${key}: ${value}`));
