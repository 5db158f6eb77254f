/** The view's state is the address: what is set here can be shared, reloaded and gone back to. */

/** @param {string} name @param {string} [otherwise] */
export const param = (name, otherwise = "") => new URLSearchParams(location.search).get(name) ?? otherwise;

/** All parameters whose name begins so, without that beginning. @param {string} prefix @returns {[string, string][]} */
export const paramsOf = (prefix) => [...new URLSearchParams(location.search)]
  .flatMap(([name, value]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), value]] : []));

/** Change the address without loading anything; an empty value removes the parameter. @param {Record<string, string|null>} changes */
export function setParams(changes) {
  const all = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) all.set(name, value);
    else all.delete(name);
  }
  const query = all.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  history.replaceState(null, "", `${location.pathname}${query && "?"}${query}${location.hash}`);
}

/** The path below <base>. */
export const path = () => location.pathname.slice(new URL(document.baseURI).pathname.length);

/** Remembered on this machine, if the browser allows it. @param {string} name @param {string} [value] */
export function remembered(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(`tunewell.${name}`, value);
    return localStorage.getItem(`tunewell.${name}`) ?? "";
  } catch {
    return "";
  }
}
