/** Which trials are selected: filters that stand in the address. */

import { paramsOf, param, setParams } from "./view.js";

/** @typedef {{kind: "ranges", ranges: [number, number][]} | {kind: "names", names: string[]}} AxisFilter */

const TERM = /^([\w.]+)\s*(<=|>=|!=|<|>|=)\s*(.+)$/;

/** Filters of axes by name; that of the score is among them. @returns {Map<string, AxisFilter>} */
export const axisFilters = () => new Map(paramsOf("on.").map(([name, text]) => [name, readAxisFilter(text)]));

/** @param {string} text @returns {AxisFilter} */
function readAxisFilter(text) {
  const parts = text.split("|");
  const ranges = parts.map((part) => part.split("..").map(Number));
  if (ranges.every((range) => range.length === 2 && !range.some(Number.isNaN))) return { kind: "ranges", ranges: /** @type {[number, number][]} */ (ranges) };
  return { kind: "names", names: parts };
}

/** @param {string} name @param {AxisFilter|null} filter */
export function setAxisFilter(name, filter) {
  const text = filter && (filter.kind === "names" ? filter.names.join("|") : filter.ranges.map((range) => range.map((end) => Number(end.toPrecision(6))).join("..")).join("|"));
  setParams({ [`on.${name}`]: text });
}

/** @param {AxisFilter} filter @param {any} value */
export function admits(filter, value) {
  if (value === null || value === undefined) return false;
  if (filter.kind === "names") return filter.names.includes(String(value));
  return filter.ranges.some(([low, high]) => value >= low && value <= high);
}

/**
 * Terms such as `learning_rate<0.05 optimizer=adam|sgd`.
 * @param {string} text @param {string[]} names what may be asked for
 * @returns {{name: string, test: (value: any) => boolean}[]}
 */
export function readTerms(text, names) {
  return text.replace(/\s*(<=|>=|!=|<|>|=)\s*/g, "$1").split(/[\s,]+/).filter(Boolean).map((term) => {
    const found = TERM.exec(term);
    if (!found) throw new Error(`“${term}” is no term: write such as learning_rate<0.05`);
    const [, name, sign, right] = found;
    if (!names.includes(name)) throw new Error(`There is no ${name} here: use one of ${names.join(", ")}`);
    const number = Number(right), options = right.split("|");
    if (["<", ">", "<=", ">="].includes(sign) && Number.isNaN(number)) throw new Error(`${term}: ${sign} needs a number`);
    const same = (/** @type {any} */ value) => options.some((one) => (typeof value === "number" ? value === Number(one) : String(value) === one));
    const tests = /** @type {Record<string, (value: any) => boolean>} */ ({
      "<": (value) => value < number, "<=": (value) => value <= number, ">": (value) => value > number, ">=": (value) => value >= number,
      "=": same, "!=": (value) => !same(value),
    });
    return { name, test: (value) => value !== null && value !== undefined && tests[sign](value) };
  });
}

/**
 * @param {import("./store.js").Store} store
 * @returns {{rest: (number: number) => boolean, axes: (number: number) => boolean, wrong: string}} `axes` tests the axes'
 * ranges, `rest` everything else; `wrong` says what of the address is not understood
 */
export function makeTests(store) {
  const states = param("state").split(",").filter(Boolean);
  const top = Number(param("top")) || 100;
  const terms = [];
  let wrong = "";
  try {
    terms.push(...readTerms(param("q"), store.askable()));
  } catch (error) {
    wrong = /** @type {Error} */ (error).message;
  }
  const floor = top >= 100 ? -Infinity : store.scoreAtShare(top / 100);
  const filters = [...axisFilters()].filter(([name]) => name === store.scoring || store.axes.has(name));
  const rest = (/** @type {number} */ number) => (!states.length || states.includes(store.state[number]))
    && (floor === -Infinity || (store.score[number] ?? -Infinity) >= floor)
    && terms.every(({ name, test }) => test(store.valueOf(name, number)));
  const axes = (/** @type {number} */ number) => filters.every(([name, filter]) => admits(filter, store.valueOf(name, number)));
  return { rest, axes, wrong };
}
