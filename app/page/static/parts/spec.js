/** The job as it was posted, to be copied as JSON, curl, command line or Python. */

import { el, fill } from "../html.js";
import { code } from "./first.js";

/** @param {any} job @param {any} best @param {Element} node */
export function showSpec(job, best, node) {
  const json = JSON.stringify(job.spec), pretty = JSON.stringify(job.spec, null, 2), url = new URL("v1/jobs", document.baseURI).href;
  const quoted = json.replaceAll("'", "'\\''");
  const python = `import json, urllib.request\n\nspec = json.loads(r'''${json.replaceAll("'''", "\\u0027\\u0027\\u0027")}''')\nrequest = urllib.request.Request("${url}", json.dumps(spec).encode(), {"Content-Type": "application/json"})\njob = json.load(urllib.request.urlopen(request))\nprint(job["id"])`;
  const facts = { ...(best?.environment ?? {}), "epochs trained": job.epochs_trained, "epochs reused": job.epochs_reused, "forbidden points skipped": job.skipped, id: job.id };
  fill(node, el("p.quiet", {}, "With every default filled in."), code("JSON", pretty), code("curl", `curl ${url} -H 'Content-Type: application/json' -d '${quoted}'`),
    code("Command line", `tunewell submit - --wait <<'JSON'\n${pretty}\nJSON`), code("Python", python),
    el("h2", {}, "Environment"), el("dl.facts", {}, Object.entries(facts).map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, String(value ?? "–"))])));
}
