// Two runs side by side: what they share, one well in both, perturbations and scores.
import { choice, el, link, notice, show } from "./dom.js";
import { isYesNo, json, Table, label, perturbations, plates, wells } from "./data.js";
import { rampBar } from "./color.js";
import { attributionBars, shareBars } from "./bars.js";
import { channelPanel, keepLook, lookOf, overlayPanel } from "./channel_panel.js";
import { grid } from "./grid.js";
import { ImageView } from "./image_view.js";
import { keep, params } from "./route.js";
import { fetchWell, wellTitle } from "./well_view.js";

/** What the runs share, and what only one has. */
function sharedTable(pair) {
  const [first, second] = pair.titles;
  const alone = (n, names) => (n ? `${n.toLocaleString("en")}: ${names.join(", ")}${n > names.length ? ", …" : ""}` : "–");
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What the runs share" }, el("table", { class: "data shared" },
    el("thead", {}, el("tr", {}, ["", "in both", `only in ${first}`, `only in ${second}`].map((text, k) => (k ? el("th", { scope: "col", text }) : el("td", {}))))),
    el("tbody", {}, pair.shared.map((row) => el("tr", {}, el("th", { scope: "row", text: row.what }), el("td", { class: "number", text: row.both.toLocaleString("en") }),
      el("td", { text: alone(row.only_first, row.examples_first) }), el("td", { text: alone(row.only_second, row.examples_second) }))))));
}

/** Boxes to choose a well by plate. */
async function wellPicker(current, put) {
  const [board, table] = await Promise.all([plates(), wells()]);
  const box = el("div", { class: "controls" });
  const wellsOf = (plate) => [...Array(table.n).keys()].filter((row) => table.at("plate", row) === plate).map((row) => [String(row), `${table.at("name", row)} · ${table.at("perturbation", row) ?? "–"}`]);
  const showWells = (plate) => box.replaceChildren(choice("Well", [["", "choose …"], ...wellsOf(plate)], String(current ?? ""), (value) => value && put(Number(value))));
  const plate = current === null ? board[0]?.id : table.at("plate", current);
  showWells(plate);
  return el("div", { class: "controls" }, choice("Plate", board.map((item) => [String(item.id), `${item.experiment} · ${item.name}`]), String(plate), (value) => showWells(Number(value))), box);
}

function bothCards(title, sides, draw) {
  return el("section", { class: "card full" }, el("h2", { text: title }), el("div", { class: "two" }, sides.map((side) => el("div", {}, el("h3", { text: side.title }), draw(side)))));
}

function facts(well, columns) {
  const yes = (name, value) => (isYesNo(name) ? ["no", "yes"][value] ?? "–" : show(value));
  return el("dl", { class: "facts" }, well.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [el("dt", { text: label(name, columns) }), el("dd", { text: yes(name, value) })]));
}

/** The same well in both runs. */
async function drawWell(holder, { id, pair, summary, views }) {
  const [well, table, groups] = await Promise.all([fetchWell(id), wells(), perturbations()]);
  let other = null;
  try {
    other = await json(`/api/pair/wells/${id}`);
  } catch (problem) {
    holder.append(notice(problem.message, problem.next));
  }
  const own = ["fold", "predicted", "confidence", "correct"].filter((name) => table.get(name)).map((name) => [name, table.at(name, id)]);
  const sides = [{ title: pair.titles[0], facts: own, predictions: well.predictions, attribution: well.attribution, channels: summary.channels, explained: well.sites.filter((item) => item.explained).map((item) => item.id), base: "/api" }];
  if (other) sides.push({ ...other, title: pair.titles[1], channels: summary.channels, base: "/api/pair" });
  const query = params();
  const site = well.sites.find((item) => item.id === Number(query.get("site"))) ?? well.sites.find((item) => sides.every((side) => side.explained.includes(item.id))) ?? well.sites.find((item) => sides.some((side) => side.explained.includes(item.id))) ?? well.sites[0];
  holder.prepend(el("h2", {}, link(`/well/${id}`, `${wellTitle(well)} · ${well.perturbation || "–"}`), site ? ` · image ${show(site.number)}` : ""));
  if (other && other.perturbation !== well.perturbation) holder.append(notice(`${pair.titles[1]} says that this well has ${other.perturbation || "no perturbation"}.`, "The folders are of different tables."));
  if (summary.has_images && site) {
    const look = lookOf(summary, query);
    if (!query.get("overlay") && sides.some((side) => side.explained.includes(site.id))) look.overlay = { ...look.overlay, channel: "all" };
    const own = sides.map((side) => {
      const explained = side.explained.includes(site.id);
      return new ImageView(look, { title: `${side.title}${explained ? "" : " (not explained)"}`, explained, base: side.base });
    });
    views.push(...own);
    holder.append(el("div", { class: "well-frame" }, el("div", { class: "images" }, el("div", { class: "pair-images" }, own.map((view) => view.node))),
      el("div", { class: "side" }, channelPanel(look), overlayPanel(look, rampBar("0", "1", "attribution")))));
    (async () => { for (const [k, view] of own.entries()) await view.open(site.id, `${sides[k].title}, ${wellTitle(well)}`); })();
    keepLook(look);
  }
  const idOf = (name) => [...Array(groups.n).keys()].find((k) => groups.at("perturbation", k) === name);
  const item = ({ perturbation, probability }) => ({ text: perturbation, href: idOf(perturbation) === undefined ? null : `/perturbation/${idOf(perturbation)}`, value: probability, mark: perturbation === well.perturbation });
  const cards = el("div", { class: "cards" }, bothCards("Predictions", sides, (side) => [facts(side.facts, summary.columns), side.predictions?.length ? shareBars(side.predictions.map(item), ["perturbation", "probability"]) : el("p", { class: "small", text: "No prediction of this well." })]),
    bothCards("Which channels decided", sides, (side) => (side.attribution?.length ? attributionBars(side.attribution, side.channels) : el("p", { class: "small", text: "This well is not explained in this run." }))));
  holder.append(cards);
}

/** Draw the comparison of two runs. */
export async function renderRuns(place, summary) {
  const [pair, table] = await Promise.all([json("/api/pair"), wells()]);
  const [first, second] = pair.titles;
  const titles = { perturbation: "perturbation", wells_compared: "wells of the recall", recall_difference: "recall, difference", activity_difference: "activity, difference", difference: "difference", n_first: `number, ${first}`, n_second: `number, ${second}` };
  for (const [name, word] of [["first", first], ["second", second]]) {
    Object.assign(titles, { [`recall_${name}`]: `recall, ${word}`, [`activity_${name}`]: `activity (mAP), ${word}`, [`q_${name}`]: `q, ${word}`, [`wells_${name}`]: `wells, ${word}`, [`value_${name}`]: `value, ${word}`, [`low_${name}`]: `95 % from, ${word}`, [`high_${name}`]: `95 % to, ${word}` });
  }
  place.append(el("p", { class: "lead", text: `${first} beside ${second}. A difference is ${second} minus ${first}.` }),
    el("section", { class: "card" }, el("h2", { text: "What the runs share" }), sharedTable(pair), pair.notes.map((text) => el("p", { class: "small", text }))));
  const views = [];
  const clear = () => views.splice(0).forEach((view) => view.dispose());
  const holder = el("section", { class: "card pair-well", "aria-label": "One well in both runs" });
  const wanted = params().get("well");
  const start = wanted !== null && Number.isInteger(Number(wanted)) && Number(wanted) < table.n ? Number(wanted) : null;
  const open = async (id) => {
    clear();
    holder.replaceChildren();
    await drawWell(holder, { id, pair, summary, views });
  };
  place.append(el("h2", { text: "One well in both runs" }), await wellPicker(start, (id) => {
    keep({ well: id, site: null, z: null });
    open(id);
  }), holder);
  if (start !== null) await open(start);
  else holder.append(el("p", { class: "small", text: "Choose a plate and a well." }));
  const groups = new Table(pair.perturbations);
  const addressOf = (row, name) => (name === "perturbation" && groups.at("perturbation_id", row) >= 0 ? `/perturbation/${groups.at("perturbation_id", row)}` : null);
  place.append(el("h2", { text: "Perturbations" }), grid({ table: groups, labels: [], file: "perturbations_of_two_runs.csv", addressOf, hidden: ["perturbation_id"], titles, title: "Perturbations of both runs" }));
  if (pair.scores) {
    const scores = new Table(pair.scores);
    const format = (column, value) => (column === "transductive" && typeof value === "number" ? ["no", "yes"][value] : show(value));
    place.append(el("h2", { text: "Scores" }), grid({ table: scores, labels: [], file: "scores_of_two_runs.csv", titles, prefix: "s", title: "Scores of both runs", format }));
  }
  return clear;
}
