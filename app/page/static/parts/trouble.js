/** Says why nothing would run: no worker, no broker, no database. */

import { get, Problem } from "../api.js";
import { el } from "../html.js";

/** A notice, or null while everything runs. @returns {Promise<any>} */
export async function findTrouble() {
  let checks;
  try {
    ({ checks } = await get("readyz"));
  } catch (error) {
    if (!(error instanceof Problem) || !error.status) return notice("The service cannot be reached.");
    return notice(error.message);
  }
  if (checks.broker !== "ok") return notice("The broker is away: new jobs wait until it is back.");
  if (!(await get("v1/workers")).items.length) return notice("No worker is there, so jobs wait: run ", el("code", {}, "tunewell up"), ", or ", el("code", {}, "celery -A worker.tasks worker"), " on a machine that trains.");
  return null;
}

/** @param {...any} words */
const notice = (...words) => el("p.notice", { role: "alert" }, words);
