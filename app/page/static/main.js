/** The frame of all pages: heading, theme, keys; and which page an address means. */

import { explain, Problem } from "./api.js";
import { el, fill } from "./html.js";
import { path, remembered } from "./view.js";

const PAGES = /** @type {[RegExp, string][]} */ ([
  [/^$/, "jobs"], [/^new$/, "new"], [/^compare$/, "compare"],
  [/^jobs\/([^/]+)$/, "job"], [/^jobs\/([^/]+)\/trials\/([^/]+)$/, "trial"],
]);
const KEYS = [["/", "search"], ["j, k", "next, previous row"], ["o, Enter", "open"], ["x", "select"], ["n", "new job"], ["g", "all jobs"], ["c", "copy the address"], ["Esc", "clear the selection"], ["?", "this list"]];
const THEMES = ["system", "light", "dark"];

function setTheme(/** @type {string} */ theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  dispatchEvent(new Event("theme"));
}

function makeThemeButton() {
  const current = () => remembered("theme") || "system";
  const label = () => `Theme: ${current()}`;
  const button = el("button.plain", { title: "Change the theme", onclick: () => {
    remembered("theme", THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length]);
    setTheme(current());
    button.textContent = label();
  } }, label());
  return button;
}

function showKeys() {
  const dialog = el("dialog", { "aria-label": "Keys", onclose: () => dialog.remove() }, el("h2", {}, "Keys"),
    el("dl.keys", {}, KEYS.map(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}

/** Keys of all pages; each page acts on the events that they send. */
function onKey(/** @type {KeyboardEvent} */ event) {
  const at = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || at.closest("input, textarea, select, dialog, [data-keys]")) return;
  const go = { n: "new", g: "." }[event.key];
  if (go) location.href = new URL(go, document.baseURI).href;
  else if (event.key === "?") showKeys();
  else if (event.key === "/") document.querySelector("input[type=search]")?.focus();
  else if (event.key === "c") navigator.clipboard?.writeText(location.href);
  else if (event.key === "j" || event.key === "k") moveRow(event.key === "j" ? 1 : -1);
  else if (event.key === "o") document.activeElement?.closest("tr")?.querySelector("a")?.click();
  else if (event.key === "x") document.activeElement?.closest("tr")?.querySelector("input")?.click();
  else return;
  event.preventDefault();
}

/** Focus the next or previous row's link. @param {number} step */
function moveRow(step) {
  const links = [...document.querySelectorAll("tr[data-row] a[data-open]")];
  const row = document.activeElement?.closest("tr");
  const now = links.findIndex((link) => link.closest("tr") === row);
  /** @type {HTMLElement|undefined} */ (links[now < 0 ? 0 : Math.min(Math.max(now + step, 0), links.length - 1)])?.focus();
}

/** The dot that says whether what is shown is current. @returns {(state: string, why?: any) => void} */
function makeConnection() {
  const dot = document.getElementById("connection");
  const WORDS = /** @type {Record<string, string>} */ ({ live: "live", polling: "polling", ended: "ended", lost: "not current: trying again" });
  return (state, why) => {
    if (!dot) return;
    dot.dataset.state = state;
    dot.textContent = WORDS[state];
    dot.title = why ? explain(why) : "";
  };
}

async function start() {
  setTheme(remembered("theme"));
  fill(document.getElementById("top"),
    el("a.brand", { href: "." }, "Tunewell"), el("nav.crumbs", { id: "crumbs", "aria-label": "Where you are" }),
    el("span.grow"), el("span.connection", { id: "connection", role: "status" }), el("a.button", { href: "new" }, "New job"), makeThemeButton(),
    el("button.plain", { title: "Keys", "aria-label": "Keys", onclick: showKeys }, "?"));
  addEventListener("keydown", onKey);
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  try {
    for (const [pattern, page] of PAGES) {
      const found = pattern.exec(path());
      if (!found) continue;
      const { show } = await import(`./pages/${page}.js`);
      await show(main, makeConnection(), ...found.slice(1).map(decodeURIComponent));
      return;
    }
    throw new Problem(404, { detail: "No such page." });
  } catch (error) {
    fill(main, el("h1", {}, "This cannot be shown"), el("p.notice", { role: "alert" }, explain(error)), el("p", {}, el("a", { href: "." }, "All jobs")));
    if (!(error instanceof Problem)) throw error;
  }
}

start();
