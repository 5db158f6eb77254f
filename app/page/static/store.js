/** One job's trials as columns by number, which of them are selected, and which are picked. */

import { describeAxis } from "./axes.js";
import { makeTests } from "./filters.js";
import { scoringOf } from "./format.js";
import { param, setParams } from "./view.js";

const OWN = ["rank", "seconds", "state", "trial"];

export class Store extends EventTarget {
  constructor() {
    super();
    /** @type {any} */ this.job = null;
    this.version = 0;
    this.tag = ""; // the job's ETag
    /** @type {string[]} */ this.state = [];
    /** @type {(number|null)[]} */ this.score = [];
    /** @type {(number|null)[]} */ this.std = [];
    /** @type {(number|null)[]} */ this.seconds = [];
    /** @type {number[]} */ this.bracket = [];
    /** @type {number[]} */ this.iter = [];
    /** @type {(number|null)[]} */ this.resources = [];
    /** @type {(number|null)[]} */ this.rank = [];
    /** @type {Record<string, any[]>} */ this.params = {};
    /** @type {Map<string, import("./axes.js").Axis>} */ this.axes = new Map();
    /** @type {number[]} all that pass the filters but those of axes */ this.admitted = [];
    /** @type {number[]} all that pass */ this.selected = [];
    this.wrong = "";
    /** @type {Set<number>} */ this.chosen = new Set();
    /** @type {number[]} scored trials, best first */ this.ranked = [];
    this.picked = new Set(param("pick").split(",").filter(Boolean).map(Number));
  }

  /** How many trials are known. */
  get size() {
    return this.state.length;
  }

  /** What trials are scored by. */
  get scoring() {
    return scoringOf(this.job);
  }

  /** What filters may ask for. */
  askable() {
    return [this.scoring, ...OWN, ...this.axes.keys()];
  }

  /** @param {string} name @param {number} number */
  valueOf(name, number) {
    if (name in this.params) return this.params[name][number];
    if (name === this.scoring) return this.score[number];
    return { rank: this.rank[number], seconds: this.seconds[number], state: this.state[number], trial: number }[name];
  }

  /** @param {number} number @returns {Record<string, any>} */
  paramsOf(number) {
    return Object.fromEntries([...this.axes.keys()].flatMap((name) => (this.params[name][number] ?? null) === null ? [] : [[name, this.params[name][number]]]));
  }

  /** Take in columns of the trials that have changed. @param {any} columns @returns {number[]} their numbers */
  merge(columns) {
    this.version = columns.version;
    columns.number.forEach((/** @type {number} */ number, /** @type {number} */ at) => {
      this.state[number] = columns.state[at];
      this.score[number] = columns.validation_score[at];
      this.std[number] = columns.validation_score_std[at];
      this.seconds[number] = columns.fit_seconds[at];
      this.bracket[number] = columns.bracket[at];
      this.iter[number] = columns.iter[at];
      this.resources[number] = columns.n_resources[at];
    });
    for (const [name, values] of Object.entries(columns.params)) {
      const column = (this.params[name] ??= []);
      columns.number.forEach((/** @type {number} */ number, /** @type {number} */ at) => { column[number] = values[at]; });
    }
    this.setRanks();
    this.setAxes();
    this.select();
    this.dispatchEvent(new Event("data"));
    return columns.number;
  }

  /** Ranks as the service gives them: more resources first, then the score; ties share the lowest. */
  setRanks() {
    const order = this.numbers().filter((one) => this.score[one] !== null);
    const key = (/** @type {number} */ one) => [this.resources[one] ?? 0, this.score[one] ?? 0];
    order.sort((a, b) => key(b)[0] - key(a)[0] || key(b)[1] - key(a)[1]);
    this.rank = this.state.map(() => null);
    order.forEach((one, at) => {
      const before = order[at - 1];
      const tied = at > 0 && this.score[before] === this.score[one] && this.resources[before] === this.resources[one];
      this.rank[one] = tied ? this.rank[before] : at + 1;
    });

    this.ranked = order;
  }

  setAxes() {
    this.axes = new Map(Object.entries(this.params).map(([name, column]) => [name, describeAxis(name, column, this.job?.spec.search, param(`log.${name}`))]));
  }

  /** Numbers of all trials. */
  numbers() {
    return [...this.state.keys()].filter((one) => this.state[one] !== undefined);
  }

  /** The score that so large a share of the trials reaches. @param {number} share */
  scoreAtShare(share) {
    const scores = /** @type {number[]} */ (this.score.filter((one) => one !== null && one !== undefined)).sort((a, b) => b - a);
    return scores.length ? scores[Math.max(0, Math.ceil(scores.length * share) - 1)] : -Infinity;
  }

  /** Apply the filters in the address. */
  select() {
    const { rest, axes, wrong } = makeTests(this);
    this.wrong = wrong;
    this.admitted = this.numbers().filter(rest);
    this.selected = this.admitted.filter(axes);
    this.chosen = new Set(this.selected);
  }

  /** Filters have changed. */
  refilter() {
    this.select();
    this.dispatchEvent(new Event("filter"));
  }

  /** @param {number} number */
  pick(number) {
    if (!this.picked.delete(number)) this.picked.add(number);
    this.tellPicked();
  }

  clearPicked() {
    this.picked.clear();
    this.tellPicked();
  }

  tellPicked() {
    setParams({ pick: [...this.picked].join(",") });
    this.dispatchEvent(new Event("pick"));
  }

  /** Selected trials that have a score. */
  scored() {
    return this.selected.filter((one) => this.score[one] !== null);
  }

  /** How many trials are not in the charts, by state, as text. */
  describeMissing() {
    const counts = /** @type {Record<string, number>} */ ({});
    for (const one of this.admitted) if (this.score[one] === null) counts[this.state[one]] = (counts[this.state[one]] ?? 0) + 1;
    return Object.entries(counts).map(([state, count]) => `${count} ${state}`).join(", ");
  }
}
