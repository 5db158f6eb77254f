/** The trials that the reader has picked, side by side: what differs between them first. */

import { accuracy, capital, short } from "../format.js";
import { el, fill } from "../html.js";
import { stateMark } from "./state.js";

/** @param {import("../store.js").Store} store @param {string} id */
export function makePicked(store, id) {
  const node = el("section.picked", { "aria-label": "Picked trials", hidden: true });
  const update = () => {
    const picked = [...store.picked].filter((one) => store.state[one] !== undefined);
    node.hidden = !picked.length;
    if (!picked.length) return;
    const names = [...store.axes.keys()], differ = names.filter((name) => new Set(picked.map((one) => store.params[name][one])).size > 1);
    const shown = picked.length > 1 ? differ : names;
    fill(node, el("div.heading", {}, el("h2", {}, picked.length > 1 ? `${picked.length} picked trials: what differs` : "Picked trial"), el("span.grow"), el("button.plain", { onclick: () => store.clearPicked() }, "Clear (Esc)")),
      el("div.scroll", { tabindex: 0, role: "region", "aria-label": "What differs" }, el("table", {},
        el("thead", {}, el("tr", {}, ["Trial", "State", "Rank", capital(store.scoring), "Deviation", ...shown].map((one) => el("th", { scope: "col" }, one)))),
        el("tbody", {}, picked.map((one) => el("tr", {}, el("td", {}, el("a", { href: `jobs/${id}/trials/${one}` }, `Trial ${one}`)), el("td", {}, stateMark(store.state[one])),
          el("td.num", {}, store.rank[one] ?? "–"), el("td.num", {}, accuracy(store.score[one])), el("td.num", {}, accuracy(store.std[one])), shown.map((name) => el("td.num", {}, short(store.params[name][one])))))))));
  };
  store.addEventListener("pick", update);
  store.addEventListener("data", update);
  update();
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !document.querySelector("dialog")) store.clearPicked(); });
  return node;
}
