/** One job: its head, the selection, and what it found, live. */

import { explain, readTable } from "../api.js";
import { Attempts } from "../attempts.js";
import { loadCharts } from "../charts/chart.js";
import { makeHeat } from "../charts/heat.js";
import { makeHistory } from "../charts/history.js";
import { makeImportance } from "../charts/importance.js";
import { makeParallel } from "../charts/parallel.js";
import { makeStops, stopsEarly } from "../charts/stops.js";
import { makeTimeline } from "../charts/timeline.js";
import { makeCost, makeEdf, makeSlice } from "../charts/plots.js";
import { ENDED, accuracy, capital, params, title } from "../format.js";
import { el, fill } from "../html.js";
import { follow } from "../live.js";
import { showErrors } from "../parts/errors.js";
import { makeFilterBar } from "../parts/filterbar.js";
import { makePicked } from "../parts/picked.js";
import { showSpec } from "../parts/spec.js";
import { Strip } from "../parts/strip.js";
import { Tabs } from "../parts/tabs.js";
import { makeTrials } from "../parts/trials.js";
import { Store } from "../store.js";

const BEST = 10;

/** @param {HTMLElement} main @param {any} connection @param {string} id */
export async function show(main, connection, id) {
  const store = new Store();
  loadCharts();
  /** @type {Promise<any>|null} asked for at once, beside the job */
  let first = readTable(encodeURIComponent(id), 0).catch(() => null);
  const body = el("div", {}, el("p.quiet", {}, "Loading the trials …"));
  /** @type {Strip|null} */
  let strip = null;
  /** @type {JobPage|null} */
  let page = null;
  const update = async (/** @type {any} */ job, /** @type {string} */ tag) => {
    [store.job, store.tag] = [job, tag];
    if (!strip) fill(main, (strip = new Strip(id, () => look(), () => store.tag)).node, body);
    strip.update(job);
    const columns = (await first) ?? (await readTable(id, store.version));
    first = null;
    const changed = store.merge(columns);
    page ??= new JobPage(body, store, id);
    page.changed(changed);
    return ENDED.includes(job.state);
  };
  const stream = {
    path: () => `v1/jobs/${id}/events?since=${store.version}`,
    on: {
      trials: (/** @type {any} */ columns) => page?.changed(store.merge(columns)),
      job: (/** @type {any} */ job, /** @type {string} */ version) => { [store.job, store.tag] = [job, `"${version}"`]; strip?.update(job); page?.counted(); },
    },
  };
  const lost = (/** @type {any} */ state, /** @type {any} */ why) => {
    connection(state, why);
    if (why?.status && !strip) fill(main, el("h1", {}, "This job cannot be shown"), el("p.notice", { role: "alert" }, explain(why)), el("p", {}, el("a", { href: "." }, "All jobs")));
  };
  const look = follow(`v1/jobs/${encodeURIComponent(id)}`, update, lost, stream);
}

class JobPage {
  /** @param {HTMLElement} main @param {Store} store @param {string} id */
  constructor(main, store, id) {
    [this.store, this.id] = [store, id];
    const open = (/** @type {number} */ one) => { location.href = new URL(`jobs/${id}/trials/${one}`, document.baseURI).href; };
    this.open = open;
    this.parallel = makeParallel(store, open);
    this.importance = makeImportance(id, store);
    /** @type {any[]} */
    this.charts = [makeHistory(store, open), makeCost(store, open), makeHeat(store), makeEdf([{ name: title(store.job), scores: () => /** @type {number[]} */ (store.scored().map((one) => store.score[one])) }], store.scoring)];
    this.slices = new Map();
    this.attempts = new Attempts(id);
    this.timed = [makeTimeline(this.attempts, open), makeStops(store, this.attempts)];
    this.trials = makeTrials(store, id);
    this.ten = el("div.ten");
    this.plots = el("div.plots");
    this.errors = el("div");
    this.spec = el("div");
    /** @type {any} */ this.best = null;
    addEventListener("best", (/** @type {any} */ event) => { this.best = event.detail; });
    const [history, cost, heat, edf] = this.charts;
    this.tabs = new Tabs([
      ["overview", "Overview", [el("div.columns23", {}, history.node, this.parallel.node), el("div.columns2", {}, this.ten, this.importance.node)]],
      ["trials", "Trials", [this.trials.node], () => this.trials.show()],
      ["plots", "Plots", [this.plots, heat.node, el("div.columns2", {}, edf.node, cost.node)]],
      ["timeline", "Timeline", this.timed.map((chart) => chart.node), () => this.showAttempts()],
      ["errors", "Errors", [this.errors], () => showErrors(store, id, this.errors)],
      ["spec", "Spec", [this.spec], () => showSpec(store.job, this.best, this.spec)],
    ]);
    const missing = el("div");
    fill(/** @type {any} */ (document.getElementById("crumbs")), el("a", { href: "." }, "Jobs"), ` / ${title(store.job)}`);
    fill(main, missing, makeFilterBar(store, id), makePicked(store, id), this.tabs.node);
    loadCharts().then((library) => library || fill(missing, el("p.notice", {}, "Charts are missing, since ECharts is not installed: run make install where npm's registry can be reached.")));
    store.addEventListener("filter", () => this.filtered());
    store.addEventListener("axes", () => this.all().forEach((chart) => chart.update()));
    store.addEventListener("pick", () => this.marked());
  }

  /** All charts. @returns {any[]} */
  all() {
    return [this.parallel, ...this.charts, ...this.slices.values()];
  }

  /** @param {number[]} numbers trials that have changed */
  changed(numbers) {
    for (const name of this.store.axes.keys()) {
      if (this.slices.has(name)) continue;
      const slice = makeSlice(this.store, name, this.open);
      this.slices.set(name, slice);
      this.plots.append(slice.node);
    }
    this.all().forEach((chart) => chart.update());
    this.trials.update(numbers);
    this.showTen();
    this.counted();
    this.importance.refresh(ENDED.includes(this.store.job.state));
    this.tabs.again();
  }

  /** The job's counts have changed. */
  counted() {
    const failed = this.store.job.trials.failed;
    this.tabs.setHidden("errors", !failed);
    this.tabs.label("errors", `Errors (${failed})`);
  }

  async showAttempts() {
    await this.attempts.read();
    const [timeline, stops] = this.timed;
    timeline.update();
    stops.node.hidden = !stopsEarly(this.store.job);
    if (!stops.node.hidden) stops.update();
  }

  filtered() {
    this.parallel.filtered();
    [...this.charts, ...this.slices.values()].forEach((chart) => chart.update());
    this.trials.filter();
    this.showTen();
  }

  marked() {
    this.all().forEach((chart) => chart.mark());
    this.trials.mark();
  }

  showTen() {
    const best = this.store.ranked.filter((one) => this.store.chosen.has(one)).slice(0, BEST);
    fill(this.ten, el("h2", {}, "Best of the selection"), !best.length ? el("p.quiet", {}, "None yet.") : el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Best trials" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Rank", "Trial", capital(this.store.scoring), "Hyperparameters"].map((one) => el("th", { scope: "col" }, one)))),
      el("tbody", {}, best.map((one) => el("tr", { "data-row": one }, el("td", {}, this.store.rank[one]), el("td", {}, el("a", { href: `jobs/${this.id}/trials/${one}`, "data-open": true }, String(one))),
        el("td.nowrap", {}, el("b", {}, accuracy(this.store.score[one])), el("span.quiet", {}, ` ± ${accuracy(this.store.std[one])}`)), el("td", {}, params(this.store.paramsOf(one)))))))));
  }
}
