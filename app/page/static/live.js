/** Live updates: pushed by server-sent events, or polled with ETags; nothing while nobody looks. */

import { getIfChanged, Problem } from "./api.js";

const FASTEST_MS = 1000;
const SLOWEST_MS = 5000;
const NO_STREAM_MS = 60000; // after a stream was refused, until the next try

/** @typedef {"live"|"polling"|"ended"|"lost"} Connection */
/** @typedef {{path: () => string, on: Record<string, (data: any, id: string) => void>}} Stream where events come from, and what each does */

/**
 * Call `changed` with what is at a path, now and whenever it has changed, until it returns true. While the stream is
 * open, its events do that instead.
 * @param {string|(() => string)} path @param {(value: any, tag: string) => any} changed @param {(state: Connection, why?: any) => void} connection
 * @param {Stream} stream @returns {() => void} look at once
 */
export function follow(path, changed, connection, stream) {
  let tag = "", text = "", timer = 0, wait = FASTEST_MS, running = false, over = false, refused = 0;
  /** @type {EventSource|null} */
  let source = null;

  const close = () => { source?.close(); source = null; };
  const open = () => {
    const opened = source = new EventSource(stream.path());
    opened.onopen = () => connection("live");
    opened.onerror = () => {
      connection("lost");
      if (opened.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      refused = Date.now();
      close();
      timer = setTimeout(look, wait);
    };
    for (const [name, handle] of Object.entries(stream.on)) opened.addEventListener(name, (event) => handle(JSON.parse(event.data), event.lastEventId));
    opened.addEventListener("end", () => { close(); look(); });
  };
  const look = async () => {
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      const found = await getIfChanged(typeof path === "string" ? path : path(), tag);
      wait = found ? FASTEST_MS : Math.min(wait * 1.3, SLOWEST_MS);
      const now = found && (found.tag || JSON.stringify(found.value));
      if (!source) connection("polling");
      if (found && now !== text) {
        [tag, text] = [found.tag, now ?? ""];
        over = await changed(found.value, tag);
        if (over) {
          close();
          return connection("ended");
        }
      }
    } catch (error) {
      connection("lost", error);
      if (!(error instanceof Problem)) reportError(error);
      else if (error.status === 404) return close();
      wait = SLOWEST_MS;
    } finally {
      running = false;
    }
    if (document.hidden || over) return;
    if (!source && Date.now() - refused > NO_STREAM_MS) open();
    if (!source) timer = setTimeout(look, wait);
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) close();
    else look();
  });
  look();
  return () => { [wait, over, tag, text] = [FASTEST_MS, false, "", ""]; look(); };
}
