/** Attempts at a job's fits, as columns by number; read when a chart needs them. */

import { get } from "./api.js";

/** @typedef {{trial: number|null, fold: number|null, iter: number, bracket: number, worker: string, attempt: number, outcome: string|null, start: number, end: number|null, reason: string|null}} Attempt */

export class Attempts {
  /** @param {string} id of the job */
  constructor(id) {
    this.id = id;
    this.version = 0;
    /** @type {Map<string, Attempt>} */
    this.all = new Map();
  }

  /** Read what has changed. */
  async read() {
    const columns = await get(`v1/jobs/${this.id}/fits?since=${this.version}`);
    this.version = columns.version;
    columns.trial.forEach((/** @type {number|null} */ trial, /** @type {number} */ at) => {
      const [fold, bracket, iter, attempt] = [columns.fold[at], columns.bracket[at], columns.iter[at], columns.attempt[at]];
      this.all.set([trial, fold, bracket, iter, attempt].join(), { trial, fold, bracket, iter, attempt, worker: columns.worker[at], outcome: columns.outcome[at], start: Date.parse(columns.start[at]), end: columns.end[at] && Date.parse(columns.end[at]), reason: columns.reason[at] });
    });
  }

  list() {
    return [...this.all.values()];
  }

  /** Of each trial: seconds of all its attempts, and how many folds it has. @returns {Map<number, {seconds: number, folds: number}>} */
  byTrial() {
    const found = new Map();
    for (const { trial, fold, start, end, outcome } of this.all.values()) {
      if (trial === null || fold === null) continue;
      const one = found.get(trial) ?? { seconds: 0, folds: 0 };
      found.set(trial, { seconds: one.seconds + ((end ?? Date.now()) - start) / 1000, folds: one.folds + Number(outcome === "succeeded") });
    }
    return found;
  }
}
