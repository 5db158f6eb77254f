/** Live updates: polling with ETags, less often while nothing changes, and not at all while nobody looks. */

import { getIfChanged, Problem } from "./api.js";

const FASTEST_MS = 1000;
const SLOWEST_MS = 5000;

/** @typedef {"live"|"waiting"|"ended"|"lost"} Connection */

/**
 * Call `changed` with what is at a path, now and whenever it has changed, until it returns true.
 * @param {string} path @param {(value: any, tag: string) => any} changed @param {(state: Connection, why?: any) => void} connection
 * @returns {() => void} look at once
 */
export function follow(path, changed, connection) {
  let tag = "", text = "", timer = 0, wait = FASTEST_MS, running = false;
  const look = async () => {
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      const found = await getIfChanged(path, tag);
      wait = found ? FASTEST_MS : Math.min(wait * 1.3, SLOWEST_MS);
      const now = found && (found.tag || JSON.stringify(found.value));
      connection("live");
      if (found && now !== text) {
        [tag, text] = [found.tag, now ?? ""];
        if (await changed(found.value, tag)) return connection("ended");
      }
    } catch (error) {
      connection("lost", error);
      if (!(error instanceof Problem)) reportError(error);
      if (error instanceof Problem && error.status === 404) return;
      wait = SLOWEST_MS;
    } finally {
      running = false;
    }
    if (!document.hidden) timer = setTimeout(look, wait);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else look();
  });
  look();
  return () => { wait = FASTEST_MS; look(); };
}
