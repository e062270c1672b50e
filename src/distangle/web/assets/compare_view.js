// Two wells or two perturbations side by side, with one zoom and one contrast for both.
import { choice, el, link, notice, show } from "./dom.js";
import { json, perturbations, plainRole, plates, wells } from "./data.js";
import { channelPanel, keepLook, lookOf } from "./channel_panel.js";
import { attributionBars } from "./bars.js";
import { ImageView } from "./image_view.js";
import { go, params } from "./route.js";
import { renderRuns } from "./runs_view.js";
import { fetchWell, twin, wellTitle } from "./well_view.js";

async function fetchSide(text) {
  const [kind, number] = (text ?? "").split(":");
  const id = Number(number);
  if (!number || !Number.isInteger(id)) return null;
  if (kind === "well") {
    const well = await fetchWell(id);
    return { kind, id, title: `${well.name} · ${well.perturbation}`, text: wellTitle(well), well, facts: [["kind of well", plainRole(well.role)], ...(well.metadata ?? [])], attribution: well.attribution, address: `/well/${id}` };
  }
  const effect = await json(`/api/perturbations/${id}`);
  const well = effect.wells.length ? await fetchWell(effect.wells[0]) : null;
  return { kind: "perturbation", id, title: effect.perturbation, text: well ? `${wellTitle(well)}, first of ${effect.wells.length} wells` : "no wells", well, wells: effect.wells, facts: (effect.row ?? []).map(([name, value]) => [name, name === "role" ? plainRole(value) : value]), attribution: effect.attribution, address: `/perturbation/${id}` };
}

/** Boxes to choose a side: a perturbation, or plate and well. */
async function picker(name, side, put) {
  const [groups, board, table] = await Promise.all([perturbations(), plates(), wells()]);
  const kind = side?.kind ?? "perturbation";
  const holder = el("div", { class: "controls" });
  const fill = (current) => {
    const fields = [choice(name, [["perturbation", "a perturbation"], ["well", "a well"]], current, fill)];
    if (current === "perturbation") {
      const options = [...Array(groups.n).keys()].map((row) => [String(row), groups.at("perturbation", row) ?? "–"]);
      options.sort((a, b) => a[1].localeCompare(b[1], "en", { numeric: true }));
      fields.push(choice("Perturbation", [["", "choose …"], ...options], side?.kind === "perturbation" ? String(side.id) : "", (value) => value && put(`perturbation:${value}`)));
    } else {
      const plate = side?.kind === "well" ? table.at("plate", side.id) : board[0]?.id;
      const box = el("div", { class: "controls" });
      const wellsOf = (id) => [...Array(table.n).keys()].filter((row) => table.at("plate", row) === id).map((row) => [String(row), `${table.at("name", row)} · ${table.at("perturbation", row) ?? "–"}`]);
      const showWells = (id) => box.replaceChildren(choice("Well", [["", "choose …"], ...wellsOf(id)], side?.kind === "well" ? String(side.id) : "", (value) => value && put(`well:${value}`)));
      fields.push(choice("Plate", board.map((item) => [String(item.id), `${item.experiment} · ${item.name}`]), String(plate), (value) => showWells(Number(value))), box);
      showWells(plate);
    }
    holder.replaceChildren(...fields);
  };
  fill(kind);
  return holder;
}

function factsTable(a, b) {
  const names = [...new Set([...(a?.facts ?? []), ...(b?.facts ?? [])].filter(([name, value]) => value !== null && value !== "" && !name.startsWith("Metadata_")).map(([name]) => name))];
  const value = (side, name) => show(side?.facts.find((row) => row[0] === name)?.[1] || null);
  return el("table", { class: "data" }, el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "property" }), [a, b].map((side) => el("th", { scope: "col" }, side ? link(side.address, side.title) : "–")))),
    el("tbody", {}, names.map((name) => el("tr", { class: a && b && value(a, name) !== value(b, name) ? "differs" : null }, el("th", { scope: "row", text: name.replaceAll("_", " ") }), el("td", { text: value(a, name) }), el("td", { text: value(b, name) })))));
}

/** Draw the view that compares. */
export async function render(place, { facts }) {
  const query = params();
  place.append(el("h1", { text: "Compare" }));
  if (facts.other) {
    const runs = query.get("of") !== "two" && !query.get("a") && !query.get("b");
    place.append(el("nav", { class: "tabs", "aria-label": "What to compare" },
      link("/compare", "The two runs", { "aria-current": runs ? "true" : null }), link("/compare?of=two", "Two wells or perturbations", { "aria-current": runs ? null : "true" })));
    if (runs) return renderRuns(place, facts);
  }
  place.append(el("p", { class: "lead", text: "Choose two wells or two perturbations; both share zoom and contrast." }));
  const [a, b] = await Promise.all(["a", "b"].map((name) => fetchSide(query.get(name)).catch((problem) => {
    place.append(notice(problem.message, problem.next));
    return null;
  })));
  const put = (name) => (value) => {
    const next = params();
    next.set(name, value);
    go(`/compare?${next}`);
  };
  place.append(el("div", { class: "pickers" }, await picker("Left", a, put("a")), await picker("Right", b, put("b"))));
  if (!a && !b) return null;
  const look = lookOf(facts, query);
  const views = [];
  if (facts.has_images) {
    const columns = el("div", { class: "pair-images" });
    const jobs = [];
    for (const side of [a, b]) {
      const site = side?.well && (side === b && a?.well ? twin(a.well.sites[0], side.well) : side.well.sites[0]);
      if (!site) {
        columns.append(el("p", { class: "notice", text: side ? "No image." : "Choose the other side." }));
        continue;
      }
      const view = new ImageView(look, { title: `${side.title} (${side.text})`, href: `/well/${side.well.id}` });
      views.push(view);
      columns.append(view.node);
      jobs.push(() => view.open(site.id, side.text));
    }
    place.append(el("div", { class: "well-frame" }, el("div", { class: "images" }, columns), el("div", { class: "side" }, channelPanel(look))));
    (async () => { for (const job of jobs) await job(); })();
    keepLook(look);
  }
  place.append(el("div", { class: "card facts-table" }, factsTable(a, b)), el("div", { class: "cards" }, [a, b].filter((side) => side?.attribution?.length).map((side) => el("section", { class: "card wide" }, el("h2", { text: `Channels: ${side.title}` }), attributionBars(side.attribution, facts.channels)))));
  return () => views.forEach((view) => view.dispose());
}
