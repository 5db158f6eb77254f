/** Name, labels and note of a job, unless somebody else has changed them meanwhile. */

import { explain, patch } from "../api.js";
import { el, say, toast } from "../html.js";

/** Labels as text: `team: vision, sprint: 12`. @param {Record<string, string>} labels */
export const formatLabels = (labels) => Object.entries(labels ?? {}).map((pair) => pair.join(": ")).join(", ");

/** @param {string} text @returns {Record<string, string>} */
export const readLabels = (text) => Object.fromEntries(text.split(",").map((one) => one.split(":").map((part) => part.trim())).filter((pair) => pair[0]));

/** @param {string} path @param {string} tag the job's ETag as it is shown @param {any} job @param {() => void} done */
export function editJob(path, tag, job, done) {
  const field = (/** @type {string} */ label, /** @type {any} */ input) => el("label.stacked", {}, label, input);
  const name = el("input", { value: job.name ?? "" }), labels = el("input", { value: formatLabels(job.labels), placeholder: "team: vision" }), note = el("textarea", { rows: 6, maxlength: 4096, value: job.note ?? "" });
  const wrong = el("p.error", { role: "alert" });
  const send = async () => {
    try {
      await patch(path, { name: name.value || null, labels: readLabels(labels.value), note: note.value }, tag);
      dialog.close();
      toast("Saved.");
      done();
    } catch (error) {
      say(wrong, explain(error));
    }
  };
  const dialog = el("dialog", { "aria-label": "Edit", onclose: () => dialog.remove() }, el("h2", {}, "Name, labels and note"),
    field("Name", name), field("Labels", labels), field("Note", note), wrong,
    el("div.buttons", {}, el("button", { onclick: () => dialog.close() }, "Not now"), el("button.primary", { onclick: send }, "Save")));
  document.body.append(dialog);
  dialog.showModal();
}
