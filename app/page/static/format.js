/** How numbers, times and states are written. */

/** What a job's trials are scored by. @param {any} job @returns {string} */
export const scoringOf = (job) => job?.scoring ?? "accuracy";

/** @param {string} text */
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** A score. @param {number|null|undefined} value */
export const accuracy = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));

/** @param {any} value a hyperparameter's value, short */
export function short(value) {
  if (typeof value !== "number") return String(value ?? "–");
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return String(Number(value.toPrecision(4)));
}

/** @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

/** @param {string} moment */
export const age = (moment) => `${duration(Math.max(0, (Date.now() - Date.parse(moment)) / 1000))} ago`;

/** @param {number} count @param {string} noun */
export const count = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Signs of the states, so that colour is never the only one. */
export const SIGNS = /** @type {Record<string, string>} */ ({
  queued: "○", running: "▶", paused: "‖", cancelling: "◌", succeeded: "✓", failed: "✗", cancelled: "–", pruned: "✂",
});

export const ENDED = ["succeeded", "failed", "cancelled"];

/** A job's name, or the beginning of its id. @param {any} job */
export const title = (job) => job.name ?? job.id.slice(0, 8);

/** Strategy and size of a search. @param {any} job */
export function size(job) {
  const strategy = (job.spec.search?.strategy ?? "?").replace("_", " ");
  const folds = job.spec.evaluation?.cv;
  return `${strategy}, ${job.trials.total.toLocaleString("en")}${folds ? ` × ${folds}` : ""}`;
}

/** @param {Record<string, any>} params */
export const params = (params) => Object.entries(params).map(([name, value]) => `${name} ${short(value)}`).join(", ");

/** Rows as CSV. Text that a spreadsheet would take for a formula gets an apostrophe. @param {string[]} names @param {any[][]} rows */
export function csv(names, rows) {
  const cell = (/** @type {any} */ value) => {
    let text = String(value ?? "");
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}
