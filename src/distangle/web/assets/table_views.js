// Hit list, scores and checks as tables.
import { el, show } from "./dom.js";
import { json, perturbations, plainRole, Table, sites } from "./data.js";
import { grid } from "./grid.js";

const LEAD = {
  hits: "One row per perturbation, the strongest effect first. Click a name to see its wells.",
  scores: "How well the network does, and on what the number rests.",
  checks: "What the check of the images and tables found. Rows with an image open it.",
};
const TITLE = { hits: "Hit list", scores: "Scores", checks: "Checks" };
const WORDS = {
  mean_average_precision: "mAP (replicates found first, 0–1)", expected: "mAP by chance", p: "p", q: "q (false discovery rate)",
  effect_size: "effect size", replicate_agreement: "agreement of replicates", n_wells: "wells", n_plates: "plates",
  n_experiments: "experiments", channel: "main channel", nearest: "most alike", nearest_cosine: "similarity",
  opposite: "most opposite", opposite_cosine: "similarity of the opposite", cluster: "group", reason: "why no value", channel_shapley: "weight of the main channel",
  low: "95 % from", high: "95 % to", chance: "by chance", n: "number", n_groups: "groups", interval_over: "interval over",
  baseline_position: "from well position alone", baseline_plate: "from plate alone", baseline_intensity: "from brightness alone",
  found: "what was found", expected_value: "expected", fix: "what to do", site_number: "image", kind: "finding",
};

/** The wells or images behind a score: the map with its conditions. */
function behind(table, row, facts) {
  const clean = (text) => encodeURIComponent(text.replaceAll("~", "%7E"));
  const of = table.at("level", row) === "site" && facts.maps?.includes("sites") ? "sites" : "wells";
  const query = [`of=${of}`, "color=correct", "f=correct~between~0~1"];
  if (table.at("wells", row) === "treatments") query.push("f=role~in~treatment");
  const subset = table.at("subset", row) ?? "";
  const part = /^(?:worst )?(cell type|experiment) (.+)$/.exec(subset);
  if (part) query.push(`f=${part[1].replace(" ", "_")}~in~${clean(part[2])}`);
  return `/map?${query.join("&")}`;
}

/** Draw one of the three tables. */
export async function render(place, { facts, name }) {
  const whole = name !== "hits" || facts.has_hits;
  const raw = whole ? await json(`/api/tables/${name}`) : null;
  const table = raw ? new Table(raw.columns ? raw : raw.table) : await perturbations();
  const groups = await perturbations();
  const ids = new Map([...Array(groups.n).keys()].map((row) => [groups.at("perturbation", row), row]));
  const links = ["perturbation", "nearest", "opposite"];
  const cells = name === "checks" && table.get("site") ? await sites() : null;
  const addressOf = (row, column) => {
    if (cells) {
      const site = table.at("site", row);
      if (site === null || site < 0) return null;
      return [table.names.find((item) => item !== "site"), "well", "file"].includes(column) ? `/well/${cells.at("well", site)}?site=${site}` : null;
    }
    if (table.get("well_id") && column === "well") return `/well/${table.at("well_id", row)}`;
    if (name === "scores" && column === "value") return facts.has_map ? behind(table, row, facts) : null;
    if (!links.includes(column)) return null;
    const id = ids.get(table.at(column, row));
    return id === undefined ? null : `/perturbation/${id}`;
  };
  place.append(el("h1", { text: whole ? TITLE[name] : "Perturbations" }),
    el("p", { class: "lead", text: whole ? LEAD[name] : "All perturbations of this folder. `distangle profile RUN` ranks them by their effect." }));
  if (!table.n) {
    place.append(el("p", { class: "card", text: name === "checks" ? "Nothing was found." : "The table is empty." }));
    return null;
  }
  const format = (column, value) => (column === "role" ? plainRole(value) : column === "transductive" && typeof value === "number" ? (value ? "yes" : "no") : show(value));
  const start = name === "hits" && table.get("mean_average_precision") ? ["mean_average_precision", false] : null;
  place.append(grid({ table, labels: facts.columns, file: `${name}.csv`, addressOf, start, format, hidden: ["site", "well_id", "perturbation_id"], titles: WORDS }));
  if (raw?.source) place.append(el("p", { class: "small" }, `Source: ${raw.source} · `, el("a", { href: `/api/tables/${name}.csv`, download: `${name}.csv`, text: "whole table (CSV)" })));
  return null;
}
