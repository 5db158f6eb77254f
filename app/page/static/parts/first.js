/** What a service without jobs shows: one click to a real search, and why it would not run. */

import { explain, post } from "../api.js";
import { copy, el, fill, toast } from "../html.js";

const QUICK = {
  name: "digits-quick",
  dataset: { name: "digits" },
  search: { strategy: "grid", param_grid: { learning_rate: [0.001, 0.01], num_neurons: [32, 64] } },
  fixed: { epochs: 2, filters: 8 },
  evaluation: { cv: 3 },
  random_state: 0,
};

/** @param {HTMLElement} main @param {any} trouble */
export function showFirstRun(main, trouble) {
  const start = async () => {
    button.disabled = true;
    try {
      location.href = new URL(`jobs/${(await post("v1/jobs", QUICK)).id}`, document.baseURI).href;
    } catch (error) {
      button.disabled = false;
      toast(explain(error), "error");
    }
  };
  const button = el("button.primary.large", { onclick: start }, "Search digits now, about 10 s");
  const curl = `curl ${new URL("v1/jobs", document.baseURI).href} -H 'Content-Type: application/json' -d '${JSON.stringify(QUICK)}'`;
  fill(main, el("div.first", {}, el("h1", {}, "No jobs yet"),
    el("p", {}, "A job is one search: Tunewell trains each candidate on each fold, keeps the best, and scores it once on the test set."),
    trouble, el("div.buttons", {}, button, el("a.button.large", { href: "new" }, "Make your own")),
    el("h2", {}, "The same search without this page"),
    code("curl", curl), code("Command line", "tunewell submit examples/digits-quick.json --wait")));
}

/** Text to copy. @param {string} name @param {string} text */
export const code = (name, text) => el("figure.code", {}, el("figcaption", {}, name, el("button.plain", { onclick: () => copy(text) }, "Copy")), el("pre", { tabindex: 0 }, text));
