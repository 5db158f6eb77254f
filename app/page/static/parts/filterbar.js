/** The bar that selects trials; it stays in sight, and its state stands in the address. */

import { short, csv, SIGNS } from "../format.js";
import { trialRows } from "../charts/points.js";
import { axisFilters, setAxisFilter } from "../filters.js";
import { announce, download, el, fill, say } from "../html.js";
import { param, setParams } from "../view.js";

/** @param {import("../store.js").Store} store @param {string} id */
export function makeFilterBar(store, id) {
  const counts = el("strong"), chips = el("span.chips"), states = el("span.buttons.states", { role: "group", "aria-label": "States" }), wrong = el("span.error", { id: "wrong", role: "alert" });
  const set = (/** @type {Record<string, string|null>} */ changes) => { setParams(changes); store.refilter(); };
  let timer = 0;
  const text = el("input", { type: "search", value: param("q"), placeholder: "learning_rate<0.05 accuracy>0.9", "aria-label": "Select trials by terms", "aria-describedby": "wrong", size: 30,
    oninput: () => { clearTimeout(timer); timer = setTimeout(() => set({ q: text.value }), 200); } });
  const top = el("input", { type: "range", min: 1, max: 100, value: param("top") || 100, "aria-label": "Best percent", oninput: () => { say(share, `best ${top.value}%`); clearTimeout(timer); timer = setTimeout(() => set({ top: top.value === "100" ? null : top.value }), 100); } });
  const share = el("span.nowrap", {}, `best ${param("top") || 100}%`);
  const clear = el("button", { onclick: () => {
    [...axisFilters().keys()].forEach((name) => setAxisFilter(name, null));
    text.value = ""; top.value = 100; say(share, "best 100%");
    set({ q: null, top: null, state: null });
  } }, "Clear");
  const save = el("button", { onclick: () => { const { names, rows } = trialRows(store, store.selected); download(`${id}-selection.csv`, csv(names, rows), "text/csv"); } }, "CSV");

  const toggle = (/** @type {string} */ state) => {
    const now = param("state").split(",").filter(Boolean);
    set({ state: (now.includes(state) ? now.filter((one) => one !== state) : [...now, state]).join(",") });
  };
  /** @type {Map<string, any>} */
  const buttons = new Map();
  const update = () => {
    const tally = /** @type {Record<string, number>} */ ({});
    for (const state of store.state) tally[state] = (tally[state] ?? 0) + 1;
    const chosen = param("state").split(",");
    for (const state of new Set([...Object.keys(tally), ...chosen.filter(Boolean)])) {
      if (!buttons.has(state)) { const made = el("button.chip", { onclick: () => toggle(state) }); buttons.set(state, made); states.append(made); }
      const button = buttons.get(state);
      button.setAttribute("aria-pressed", String(chosen.includes(state)));
      say(button, `${SIGNS[state] ?? ""} ${(tally[state] ?? 0).toLocaleString("en")} ${state}`);
    }
    const filters = [...axisFilters()], any = filters.length || param("q") || param("top") || param("state");
    say(counts, `${store.selected.length.toLocaleString("en")} of ${store.size.toLocaleString("en")} selected`);
    const key = JSON.stringify(filters);
    if (chips.dataset.key !== key) {
      chips.dataset.key = key;
      fill(chips, filters.map(([name, filter]) => el("button.chip", { title: "Remove this filter", onclick: () => { setAxisFilter(name, null); store.refilter(); } },
        `${name}: ${filter.kind === "names" ? filter.names.join(" or ") : filter.ranges.map((ends) => ends.map(short).join(" to ")).join(" or ")} ×`)));
    }
    clear.hidden = !any;
    say(wrong, store.wrong);
    text.setAttribute("aria-invalid", String(Boolean(store.wrong)));
  };
  store.addEventListener("data", update);
  store.addEventListener("filter", () => { update(); announce(counts.textContent ?? ""); });
  update();
  return el("section.filterbar", { "aria-label": "Selection" }, counts, states, text, wrong, el("label", {}, top, share), chips, clear, save);
}
