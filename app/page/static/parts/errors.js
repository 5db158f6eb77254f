/** Failed trials, grouped by cause, with the hyperparameters that they share and no other trial has. */

import { get } from "../api.js";
import { count, short } from "../format.js";
import { el, fill } from "../html.js";

const MAX_LISTED = 30;
const MAX_READ = 300;

/** What tells two causes apart: numbers and addresses do not. @param {any} error */
const causeOf = (error) => `${error?.type ?? "Error"}: ${(error?.message ?? "").replace(/0x[0-9a-f]+|\d+(\.\d+)?/gi, "…").slice(0, 200)}`;

/**
 * Values that all of these trials share and none of those that succeeded has.
 * @param {import("../store.js").Store} store @param {number[]} numbers
 */
function sharedBy(store, numbers) {
  const others = store.numbers().filter((one) => store.state[one] === "succeeded");
  return [...store.axes.keys()].flatMap((name) => {
    const values = new Set(numbers.map((one) => store.params[name][one]));
    const [value] = values;
    return values.size === 1 && others.length && !others.some((one) => store.params[name][one] === value) ? [`${name} ${short(value)}`] : [];
  });
}

/** @param {import("../store.js").Store} store @param {string} id @param {Element} node */
export async function showErrors(store, id, node) {
  const items = [];
  for (let token = ""; token !== null && items.length < MAX_READ;) {
    const page = await get(`v1/jobs/${id}/trials?state=failed&page_size=100&page_token=${token}`);
    items.push(...page.items);
    token = page.next_page_token;
  }
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const trial of items) groups.set(causeOf(trial.error), [...(groups.get(causeOf(trial.error)) ?? []), trial]);
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length);
  fill(node, !sorted.length && el("p.quiet", {}, "No trial has failed."), sorted.map(([cause, trials], at) => {
    const shared = sharedBy(store, trials.map((one) => one.number));
    return el("article.cause", {}, el("h2", {}, `${trials.length} × ${trials.length > 1 ? cause : causeText(trials[0].error)}`),
      shared.length > 0 && el("p", {}, `All of them, and no trial that succeeded, have ${shared.join(" and ")}.`),
      el("p", {}, "Trials ", trials.slice(0, MAX_LISTED).flatMap((one) => [el("a", { href: `jobs/${id}/trials/${one.number}` }, String(one.number)), " "]), trials.length > MAX_LISTED && `and ${count(trials.length - MAX_LISTED, "other")}`),
      trials[0].error?.traceback && el("details", { open: at === 0 }, el("summary", {}, "Traceback of the first"), el("pre", { tabindex: 0 }, trials[0].error.traceback)));
  }));
}

/** @param {any} error */
export const causeText = (error) => (error ? `${error.type}: ${error.message}` : "no error recorded");
