/** Calls of the REST API. All addresses are relative to <base>, so that the page works under any prefix. */

/** An error response: a problem document (RFC 9457). */
export class Problem extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body?.detail || `The service answered with status ${status}.`);
    this.status = status;
    /** @type {{pointer: string, message: string}[]} */
    this.errors = body?.errors ?? [];
    /** @type {Record<string, string>} */
    this.checks = body?.checks ?? {};
  }
}

/**
 * @param {string} method @param {string} path @param {any} [body] @param {Record<string, string>} [headers]
 * @returns {Promise<Response>}
 */
async function send(method, path, body, headers = {}) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, body: body === undefined ? undefined : JSON.stringify(body), headers: { ...json, ...headers }, cache: "no-store" });
  } catch {
    throw new Problem(0, { detail: "The service cannot be reached." });
  }
  if (response.ok || response.status === 304) return response;
  throw new Problem(response.status, await response.json().catch(() => null));
}

/** @param {string} path @returns {Promise<any>} */
export const get = async (path) => (await send("GET", path)).json();

/** @param {string} path @param {any} [body] @returns {Promise<any>} */
export const post = async (path, body) => (await send("POST", path, body)).json();

/** @param {string} path @param {any} body @param {string} tag @returns {Promise<any>} */
export const patch = async (path, body, tag) => (await send("PATCH", path, body, { "If-Match": tag })).json();

/** @param {string} path */
export const remove = (path) => send("DELETE", path);

/**
 * What is at a path if it has changed. @param {string} path @param {string} tag the ETag of what is known
 * @returns {Promise<{value: any, tag: string, wait: number} | null>}
 */
export async function getIfChanged(path, tag) {
  const response = await send("GET", path, undefined, tag ? { "If-None-Match": tag } : {});
  if (response.status === 304) return null;
  return { value: await response.json(), tag: response.headers.get("ETag") ?? "", wait: Number(response.headers.get("Retry-After")) || 0 };
}

/** What a problem says, in one text. @param {any} error */
export function explain(error) {
  if (!(error instanceof Problem)) return `Something on this page failed: ${error.message ?? error}`;
  return [error.message, ...error.errors.map((one) => (one.pointer ? `${one.pointer}: ${one.message}` : one.message))].join(" ");
}

/**
 * The trials that have changed after a version of the job, as columns. @param {string} id @param {number} since
 * @returns {Promise<any>}
 */
export const readTable = (id, since) => get(`v1/jobs/${id}/table?since=${since}`);
