/** Tabs, of which the chosen one stands in the address. */

import { el, say } from "../html.js";
import { param, setParams } from "../view.js";

export class Tabs {
  /** @param {[string, string, any[], (() => void)?][]} tabs name, title, content, and what to do when it is shown */
  constructor(tabs) {
    this.tabs = tabs.map(([name, title, content, shown]) => ({
      name, shown,
      button: el("button", { role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => this.choose(name) }, title),
      panel: el("div", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}` }, content),
    }));
    this.list = el("div.tabs", { role: "tablist", "aria-label": "Views", onkeydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event) }, this.tabs.map((tab) => tab.button));
    this.node = el("div", {}, this.list, this.tabs.map((tab) => tab.panel));
    const wanted = param("tab");
    this.choose(this.tabs.some((tab) => tab.name === wanted) ? wanted : this.tabs[0].name);
  }

  /** @param {string} name */
  choose(name) {
    this.chosen = name;
    setParams({ tab: name === this.tabs[0].name ? null : name });
    for (const tab of this.tabs) {
      tab.button.setAttribute("aria-selected", String(tab.name === name));
      tab.button.tabIndex = tab.name === name ? 0 : -1;
      tab.panel.hidden = tab.name !== name;
    }
    this.again();
  }

  /** What it shows has changed. */
  again() {
    this.tabs.find((tab) => tab.name === this.chosen)?.shown?.();
  }

  /** @param {string} name @param {boolean} hidden */
  setHidden(name, hidden) {
    const tab = this.tabs.find((one) => one.name === name);
    if (tab) tab.button.hidden = hidden;
  }

  /** @param {string} name @param {string} title */
  label(name, title) {
    const tab = this.tabs.find((one) => one.name === name);
    if (tab) say(tab.button, title);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const open = this.tabs.filter((tab) => !tab.button.hidden), now = open.findIndex((tab) => tab.name === this.chosen);
    const next = open[(now + step + open.length) % open.length];
    this.choose(next.name);
    next.button.focus();
  }
}
