/** One job. */

import { accuracy, params, title } from "../format.js";
import { el, fill } from "../html.js";
import { follow } from "../live.js";
import { Progress, stateMark } from "../parts/state.js";
import { ENDED } from "../format.js";

/** @param {HTMLElement} main @param {any} connection @param {string} id */
export function show(main, connection, id) {
  const progress = new Progress(), state = el("span"), best = el("p");
  let built = false;
  const lost = (/** @type {any} */ at, /** @type {any} */ why) => {
    connection(at, why);
    if (why?.status && !built) fill(main, el("h1", {}, "This job cannot be shown"), el("p.notice", { role: "alert" }, why.message));
  };
  follow(`v1/jobs/${encodeURIComponent(id)}`, (job) => {
    if (!built) fill(main, el("div.heading", {}, el("h1", {}, title(job)), state), progress.node, best);
    built = true;
    fill(state, stateMark(job.state));
    progress.update(job);
    fill(best, job.best && `Best: ${accuracy(job.best.validation_accuracy)} with ${params(job.best.params)}`);
    return ENDED.includes(job.state);
  }, lost);
}
