/** The list of jobs. */

import { explain, get, post, remove } from "../api.js";
import { ENDED, accuracy, age, params, scoringOf, size, title } from "../format.js";
import { ask, el, fill, place, say, toast } from "../html.js";
import { follow } from "../live.js";
import { Progress, labelChips, stateMark } from "../parts/state.js";
import { showFirstRun } from "../parts/first.js";
import { findTrouble } from "../parts/trouble.js";
import { param, setParams } from "../view.js";

const PAGE = 50;
const LABEL = /^\w[\w-]*:\w[\w-]*$/;
const MAX_TEXT = 100;
const FILTER_MS = 250;
const STATES = ["queued", "running", "paused", "cancelling", ...ENDED];

/** @type {Map<string, Row>} */
const rows = new Map();
/** @type {Set<string>} */
const picked = new Set();
let shown = PAGE;

/** One job's row; its cells are changed in place, so that nothing moves under the reader's hand. */
class Row {
  /** @param {any} job @param {() => void} changed @param {(label: string) => void} pickLabel */
  constructor(job, changed, pickLabel) {
    this.box = el("input", { type: "checkbox", "aria-label": `Select ${title(job)}`, onchange: () => {
      if (this.box.checked) picked.add(job.id);
      else picked.delete(job.id);
      changed();
    } });
    this.state = el("td");
    this.progress = new Progress();
    this.best = el("td", { "data-name": "best" });
    this.age = el("td.quiet.nowrap");
    this.labels = el("span.chips", {}, labelChips(job.labels, pickLabel));
    this.link = el("a", { href: `jobs/${job.id}`, "data-open": true });
    this.node = el("tr", { "data-row": job.id }, el("td", {}, this.box), this.state,
      el("td", {}, this.link, this.labels), el("td", {}, this.progress.node), this.best,
      el("td.quiet", {}, size(job)), this.age);
    this.update(job);
  }

  /** @param {any} job */
  update(job) {
    this.job = job;
    say(this.age, age(job.created_at));
    const text = JSON.stringify(job);
    if (text === this.text) return;
    this.text = text;
    say(this.link, title(job));
    fill(this.state, stateMark(job.state));
    this.progress.update(job);
    fill(this.best, job.best ? [scoringOf(job) !== "accuracy" && el("span.quiet", {}, `${scoringOf(job)} `), el("b", {}, accuracy(job.best.validation_score)), el("span.quiet.clip", { title: params(job.best.params) }, ` ${params(job.best.params)}`)] : "–");
  }
}

/** The list that the address asks for; what the service would refuse is left to `matches`. @param {number} size */
function listPath(size) {
  const query = new URLSearchParams({ page_size: String(size) });
  if (STATES.includes(param("state"))) query.set("state", param("state"));
  if (LABEL.test(param("label"))) query.set("label", param("label"));
  if (param("q").trim()) query.set("q", param("q").trim().slice(0, MAX_TEXT));
  return `v1/jobs?${query}`;
}

/** @param {any} job */
function matches(job) {
  const [state, label, text] = [param("state"), param("label"), param("q").trim().toLowerCase()];
  if (state && job.state !== state) return false;
  if (label && !Object.entries(job.labels).some(([key, value]) => `${key}:${value}` === label)) return false;
  return !text || [job.id, job.name ?? "", job.note, ...Object.entries(job.labels).flat()].some((one) => one.toLowerCase().includes(text));
}

/** @param {number} wanted @returns {Promise<{items: any[], more: boolean}>} the newest jobs */
async function readJobs(wanted) {
  const items = [];
  let token = "";
  while (items.length < wanted) {
    const page = await get(`${listPath(Math.min(100, wanted - items.length))}&page_token=${token}`);
    items.push(...page.items);
    token = page.next_page_token;
    if (!token) return { items, more: false };
  }
  return { items, more: true };
}

/** @param {HTMLElement} main @param {any} connection */
export async function show(main, connection) {
  const body = el("tbody"), trouble = el("div"), actions = el("div.buttons"), none = el("p.quiet");
  const more = el("button", { onclick: () => { shown += 200; look(); } }, "Show older jobs");
  /** @param {Record<string, string>} changes */
  const filter = (changes) => { setParams(changes); draw(); clearTimeout(timer); timer = setTimeout(() => look(), FILTER_MS); };
  let timer = 0;
  const state = el("select", { "aria-label": "State", onchange: () => filter({ state: state.value }) },
    el("option", { value: "" }, "all states"), STATES.map((one) => el("option", { value: one }, one)));
  const search = el("input", { type: "search", placeholder: "Search names, labels, ids", "aria-label": "Search", value: param("q"), oninput: () => filter({ q: search.value }) });
  const label = el("span");
  state.value = param("state");
  /** @type {any[]} */
  let jobs = [];
  let built = false;

  const draw = () => {
    const visible = jobs.filter(matches);
    const nodes = visible.map((job) => {
      const row = rows.get(job.id) ?? new Row(job, drawActions, (one) => filter({ label: one }));
      rows.set(job.id, row);
      row.update(job);
      return row.node;
    });
    place(body, nodes);
    drawActions();
    say(none, visible.length ? "" : "No job fits the filters.");
    fill(label, param("label") && el("button.chip", { title: "Remove this filter", onclick: () => filter({ label: "" }) }, `${param("label")} ×`));
  };
  let drawn = "";
  const drawActions = () => {
    const chosen = jobs.filter((job) => picked.has(job.id));
    const key = chosen.map((job) => job.id + job.state).join();
    if (key === drawn) return;
    drawn = key;
    const open = chosen.filter((job) => !ENDED.includes(job.state)), ended = chosen.filter((job) => ENDED.includes(job.state));
    fill(actions, chosen.length > 0 && [
      el("span.quiet", {}, `${chosen.length} selected`),
      chosen.length > 1 && el("a.button", { href: `compare?jobs=${chosen.map((job) => job.id).join(",")}` }, "Compare"),
      open.length > 0 && el("button", { onclick: () => each(open, (job) => post(`v1/jobs/${job.id}/cancel`)) }, `Stop ${open.length}`),
      ended.length > 0 && el("button.danger", { onclick: async () => {
        if (await ask(`Delete ${ended.length} ended jobs with their trials? This cannot be undone.`, "Delete")) each(ended, (job) => remove(`v1/jobs/${job.id}`));
      } }, `Delete ${ended.length}`),
    ]);
  };
  /** @param {any[]} chosen @param {(job: any) => Promise<any>} act */
  const each = async (chosen, act) => {
    for (const job of chosen) await act(job).catch((error) => toast(explain(error), "error"));
    look();
  };
  const build = () => {
    built = true;
    fill(main, el("div.heading", {}, el("h1", {}, "Jobs"), el("span.grow"), actions), trouble,
      el("div.filters", { role: "search" }, search, state, label),
      el("div.scroll", {}, el("table.list", {}, el("thead", {}, el("tr", {}, ["", "State", "Name", "Progress", "Best validation accuracy", "Search", "Posted"].map((name) => el("th", { scope: "col" }, name || el("span.unseen", {}, "Select"))))), body)), none, more);
  };
  const update = async (/** @type {any} */ newest) => {
    if (!newest.items.length && !param("q") && !param("state") && !param("label")) {
      built = false;
      return showFirstRun(main, await findTrouble());
    }
    const read = shown > newest.items.length && newest.next_page_token ? await readJobs(shown) : { items: newest.items, more: Boolean(newest.next_page_token) };
    jobs = read.items;
    if (!built) build();
    more.hidden = !read.more;
    draw();
    fill(trouble, jobs.some((job) => job.state === "queued") && (await findTrouble()));
  };
  const look = follow(() => listPath(PAGE), update, connection, { path: () => "v1/events", on: {
    job: (job) => {
      const at = jobs.findIndex((one) => one.id === job.id);
      if (at < 0) return matches(job) && look();
      jobs[at] = job;
      draw();
    },
    deleted: ({ id }) => { jobs = jobs.filter((job) => job.id !== id); draw(); if (!jobs.length) look(); },
  } });
  setInterval(() => rows.forEach((row) => row.update(row.job)), 10000);
}
