/** A form for a new job. */

import { code } from "../parts/first.js";
import { el, fill } from "../html.js";

/** @param {HTMLElement} main */
export function show(main) {
  fill(main, el("h1", {}, "New job"), code("Command line", "tunewell submit examples/digits-quick.json --wait"));
}
