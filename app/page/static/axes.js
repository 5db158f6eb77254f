/** What each searched hyperparameter's axis is: numbers or names, logarithmic or not. */

const TWO_DECADES = 100;
const LOG = ["loguniform", "reciprocal"];
const MAX_CHOICES = 40;

/**
 * @typedef {{name: string, numeric: boolean, log: boolean, mayBeLog: boolean, low: number, high: number, choices: any[]}} Axis
 * `choices`: the distinct values in order, empty if they are many numbers.
 */

/** The posted spaces, of which there may be several. @param {any} search @returns {Record<string, any>[]} */
export const spacesOf = (search) => [search?.param_grid ?? search?.param_distributions ?? {}].flat();

/**
 * @param {string} name @param {any[]} column @param {any} search the posted search @param {string} wish "1" for log, "0" for linear
 * @returns {Axis}
 */
export function describeAxis(name, column, search, wish) {
  const known = column.filter((value) => value !== null && value !== undefined);
  const numeric = known.length > 0 && known.every((value) => typeof value === "number");
  const posted = spacesOf(search).map((space) => space[name]).filter(Boolean);
  const distinct = [...new Set(known)];
  if (!numeric) return { name, numeric, log: false, mayBeLog: false, low: 0, high: 0, choices: distinct.map(String) };
  let [low, high] = [Infinity, -Infinity];
  for (const value of distinct) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const mayBeLog = low > 0 && high > low;
  const isLog = posted.some((one) => LOG.includes(one.distribution)) || (posted.every(Array.isArray) && high / low >= TWO_DECADES);
  return { name, numeric, log: mayBeLog && (wish ? wish === "1" : isLog), mayBeLog, low, high, choices: distinct.length <= MAX_CHOICES ? distinct.sort((a, b) => a - b) : [] };
}

/** An axis of a chart. @param {Axis} axis */
export const chartAxis = (axis) => (axis.numeric
  ? { type: axis.log ? "log" : "value", scale: true, name: axis.name }
  : { type: "category", data: axis.choices, name: axis.name });

/** A value on its axis: categories are names. @param {Axis} axis @param {any} value */
export const onAxis = (axis, value) => (value === null || value === undefined ? null : axis.numeric ? value : String(value));
