/** One hyperparameter in the form: its default, a fixed value, a list, or a range. */

import { el, fill } from "../html.js";

const DISTRIBUTIONS = { uniform: "uniform", loguniform: "log-uniform", randint: "whole numbers" };

/** What is typed as a value: a number where it is one. @param {string} text @param {any} about */
function readValue(text, about) {
  const trimmed = text.trim();
  return about.type === "string" || trimmed === "" || Number.isNaN(Number(trimmed)) ? trimmed : Number(trimmed);
}

/** Its bounds in words. @param {any} about */
export function describeBounds(about) {
  if (about.choices) return about.choices.join(", ");
  const low = about.minimum ?? about.exclusive_minimum, high = about.maximum ?? about.exclusive_maximum;
  return [low !== null && `${about.minimum === null ? "above" : "from"} ${low}`, high !== null && `${about.maximum === null ? "below" : "to"} ${high}`].filter(Boolean).join(" ");
}

export class Hyperparameter {
  /** @param {any} about of `/v1/models` @param {() => void} changed */
  constructor(about, changed) {
    this.about = about;
    this.changed = changed;
    this.mode = el("select", { "aria-label": `${about.name}: how`, onchange: () => { this.showInputs(); changed(); } },
      [["default", `default: ${about.default}`], ["fixed", "fixed at"], ["list", "one of"], ["range", "in a range"]].map(([value, text]) => el("option", { value }, text)));
    this.inputs = el("span.buttons");
    this.node = el("tr", {}, el("th", { scope: "row" }, about.name, el("p.quiet", {}, `${about.meaning}; ${describeBounds(about)}`)), el("td", {}, this.mode), el("td", {}, this.inputs));
    this.make();
  }

  make() {
    const { name, default: usual, type } = this.about, input = (/** @type {string} */ what, /** @type {any} */ more) => el("input", { "aria-label": `${name}: ${what}`, oninput: this.changed, size: 10, ...more });
    this.value = input("value", { value: String(usual) });
    this.list = input("values, with commas between", { size: 24, value: String(usual) });
    this.low = input("low", { inputmode: "decimal", size: 7 });
    this.high = input("high", { inputmode: "decimal", size: 7 });
    this.distribution = el("select", { "aria-label": `${name}: distribution`, onchange: this.changed }, Object.entries(DISTRIBUTIONS).map(([value, text]) => el("option", { value }, text)));
    this.distribution.value = type === "integer" ? "randint" : "uniform";
    this.mode.querySelector("[value=range]").disabled = type === "string";
  }

  showInputs() {
    fill(this.inputs, { default: [], fixed: [this.value], list: [this.list], range: [this.distribution, "from", this.low, "to", this.high] }[/** @type {string} */ (this.mode.value)]);
  }

  /** Grids take lists only. @param {boolean} allowed */
  allowRange(allowed) {
    this.mode.querySelector("[value=range]").disabled = !allowed || this.about.type === "string";
    if (!allowed && this.mode.value === "range") this.mode.value = "list";
    this.showInputs();
  }

  /** @param {any} fixed @param {any} searched what the job says of it */
  write(fixed, searched) {
    if (searched !== undefined && !Array.isArray(searched)) {
      this.mode.value = "range";
      this.distribution.value = searched.distribution === "reciprocal" ? "loguniform" : searched.distribution;
      this.low.value = searched.low ?? searched.loc ?? "";
      this.high.value = searched.high ?? Number(((searched.loc ?? 0) + (searched.scale ?? 1)).toPrecision(12));
    } else if (searched !== undefined) {
      this.mode.value = "list";
      this.list.value = searched.join(", ");
    } else {
      this.mode.value = fixed === undefined ? "default" : "fixed";
      if (fixed !== undefined) this.value.value = String(fixed);
    }
    this.showInputs();
  }

  /** @returns {{fixed?: any, searched?: any}} */
  read() {
    const number = (/** @type {any} */ input) => readValue(input.value, { type: "number" });
    if (this.mode.value === "fixed") return { fixed: readValue(this.value.value, this.about) };
    if (this.mode.value === "list") return { searched: this.list.value.split(",").map((/** @type {string} */ one) => readValue(one, this.about)).filter((/** @type {any} */ one) => one !== "") };
    if (this.mode.value === "range") return { searched: { distribution: this.distribution.value, low: number(this.low), high: number(this.high) } };
    return {};
  }

  /** Where errors of these pointers stand. @param {string} space */
  pointers(space) {
    return [`/fixed/${this.about.name}`, `/search/${space}/${this.about.name}`];
  }
}
