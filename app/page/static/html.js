/** Elements made by hand: text is always set as text, so that no name or note can become markup. */

/**
 * @param {string} tag name of the element, with classes: `td.num.quiet`
 * @param {Record<string, any>} [props] attributes; `onclick` and the like are listeners, `css` is set property by property
 * @param {...any} children nodes, texts, numbers, lists of them; null and false are left out
 * @returns {any}
 */
export function el(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "css") for (const [property, one] of Object.entries(value)) made.style.setProperty(property, one);
    else if (key === "value" || key === "checked") made[key] = value;
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  add(made, children);
  return made;
}

/** @param {Element} parent @param {any[]} children */
function add(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/** Replace what an element holds. @param {Element} parent @param {...any} children */
export function fill(parent, ...children) {
  parent.replaceChildren();
  add(parent, children);
}

/** Make these the children, moving none that stands where it should: what has the focus keeps it. @param {Element} parent @param {any[]} nodes */
export function place(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, at) => { if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] ?? null); });
}

/** Set an element's text if it is another: what is unchanged is not touched. @param {Element} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Tell those who cannot see the page, a moment later and only the latest. @param {string} text */
export function announce(text) {
  clearTimeout(announcing);
  announcing = setTimeout(() => say(/** @type {Element} */ (document.getElementById("announce")), text), 400);
}
let announcing = 0;

/** A table of cells. @param {string} caption @param {string[]} names @param {any[][]} rows */
export function table(caption, names, rows) {
  return el("div.scroll", { tabindex: 0, role: "region", "aria-label": caption },
    el("table.plain", {},
      el("caption.unseen", {}, caption),
      el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell)))))));
}

/** Ask before something that cannot be undone. @param {string} question @param {string} yes @returns {Promise<boolean>} */
export function ask(question, yes) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-label": question, onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      el("form", { method: "dialog" }, el("p", {}, question),
        el("div.buttons", {}, el("button", { value: "no" }, "Keep"), el("button.danger", { value: "yes" }, yes))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A short message at the edge of the page. @param {string} text @param {"error"|"done"} [kind] */
export function toast(text, kind = "done") {
  const note = el(`div.toast.${kind}`, { role: kind === "error" ? "alert" : "status" }, text,
    el("button.plain", { "aria-label": "Close", onclick: () => note.remove() }, "×"));
  document.body.append(note);
  setTimeout(() => note.remove(), kind === "error" ? 15000 : 5000);
}

/** Hand text or an image to the reader as a file. @param {string} name @param {string|Blob} content @param {string} [type] */
export function download(name, content, type = "text/plain") {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser does not allow copying here: select the text instead.", "error");
  }
}
