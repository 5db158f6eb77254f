/** The colours of the theme that is shown, for what is drawn on a canvas. */

const NAMES = ["ink", "quiet", "line", "panel", "raised", "accent", "good", "bad", "warn", "busy", "lost"];
// Viridis, so that brightness alone tells the order; on white it runs the other way, without its brightest end.
const SCALES = {
  light: ["#c3cf4e", "#6cc067", "#35a07f", "#25758e", "#3b4d8a", "#440154"],
  dark: ["#57419b", "#3d6aa0", "#2a8fa0", "#2db190", "#7fd35a", "#fde725"],
};

/** @typedef {Record<string, string> & {scale: string[], dark: boolean}} Colours */

/** @type {Colours|null} */
let known = null;
addEventListener("theme", () => { known = null; });
matchMedia("print").addEventListener("change", () => { known = null; }); // paper is light
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));

/** @returns {Colours} */
export function colours() {
  if (known) return known;
  const probe = document.createElement("i");
  document.body.append(probe);
  const found = Object.fromEntries(NAMES.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  }));
  probe.remove();
  const dark = brightness(found.ink) > 128;
  known = /** @type {Colours} */ ({ ...found, dark, scale: SCALES[dark ? "dark" : "light"] });
  return known;
}

/** @param {string} colour as `rgb(…)` */
const brightness = (colour) => (colour.match(/\d+(\.\d+)?/g) ?? ["0"]).slice(0, 3).reduce((sum, one) => sum + Number(one) / 3, 0);

/** The colour of a share between 0 and 1. @param {number} share */
export function scaleColour(share) {
  const { scale } = colours(), at = Math.min(Math.max(share, 0), 1) * (scale.length - 1), low = Math.min(Math.floor(at), scale.length - 2);
  const parts = [scale[low], scale[low + 1]].map((one) => [1, 3, 5].map((start) => parseInt(one.slice(start, start + 2), 16)));
  return `rgb(${parts[0].map((one, channel) => Math.round(one + (parts[1][channel] - one) * (at - low))).join(",")})`;
}

/** Colour of a state. @param {string} state */
export function stateColour(state) {
  const { good, bad, warn, busy, quiet, lost } = colours();
  return { succeeded: good, failed: bad, pruned: warn, running: busy, lost, hung: lost, timed_out: lost, out_of_memory: lost }[state] ?? quiet;
}
