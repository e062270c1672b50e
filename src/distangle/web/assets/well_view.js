// One well: its images beside the nearest control well, and what the network made of it.
import { el, link, show } from "./dom.js";
import { json, perturbations, plainRole, plates, wells } from "./data.js";
import { rampBar } from "./color.js";
import { attributionBars, shareBars } from "./bars.js";
import { channelPanel, keepLook, lookOf, overlayPanel } from "./channel_panel.js";
import { gallery } from "./gallery.js";
import { ImageView } from "./image_view.js";
import { keep, params } from "./route.js";

/** The site of a linked well that matches: the same number, else the first. */
export function twin(site, other) {
  return other.sites.find((item) => item.number === site?.number) ?? other.sites[0];
}

/** Words for a well: experiment, plate, well. */
export function wellTitle(well) {
  return `${well.experiment} · plate ${well.plate_name ?? well.plate} · ${well.name}`;
}

/** Fetch a well with its plate's name in words. */
export async function fetchWell(id) {
  const [well, board] = await Promise.all([json(`/api/wells/${id}`), plates()]);
  const plate = board.find((item) => item.id === well.plate);
  return { ...well, plate_name: plate?.name ?? String(well.plate) };
}

async function items(ids, noteOf) {
  const [table, board] = await Promise.all([wells(), plates()]);
  return ids.map((id, k) => {
    const plate = board[table.at("plate", id)];
    return { well: id, site: table.at("first_site", id) ?? -1, title: table.at("perturbation", id) ?? "–", note: [`${plate?.experiment} · ${plate?.name} · ${table.at("name", id)}`, noteOf?.(k)].filter(Boolean).join(" · ") };
  });
}

/** The wells on the same plate, next in reading order, for the buttons that step. */
async function neighbors(id) {
  const table = await wells();
  const plate = table.at("plate", id);
  const mine = [...Array(table.n).keys()].filter((row) => table.at("plate", row) === plate);
  mine.sort((a, b) => table.at("row", a) - table.at("row", b) || table.at("column", a) - table.at("column", b));
  const k = mine.indexOf(id);
  return { before: mine[k - 1], after: mine[k + 1] };
}

/** Draw the view of a well. */
export async function render(place, { facts, id }) {
  if (!Number.isInteger(id)) throw new Error("The address names no well.");
  const well = await fetchWell(id);
  const [steps, groups, control] = await Promise.all([neighbors(id), perturbations(), well.control === null || well.control === undefined || well.control === id ? null : fetchWell(well.control)]);
  const groupId = (await wells()).at("perturbation_id", id);
  const query = params();
  const look = lookOf(facts, query);
  let site = well.sites.find((item) => item.id === Number(query.get("site"))) ?? well.sites.find((item) => item.explained) ?? well.sites[0];
  if (query.get("site") && site?.id !== Number(query.get("site"))) keep({ site: null });

  const title = well.perturbation || "no perturbation";
  place.append(el("p", { class: "trail" }, link(`/plates?experiment=${encodeURIComponent(well.experiment)}`, `${well.experiment} · plate ${well.plate_name}`), ` › ${well.name}`),
    el("div", { class: "title-row" }, el("h1", { text: `${well.name} · ${title}` }),
      el("span", { class: `tag ${well.role}`, text: plainRole(well.role) }),
      el("span", { class: "steps" },
        steps.before !== undefined ? link(`/well/${steps.before}`, "‹ previous", { class: "button", rel: "prev" }) : null,
        steps.after !== undefined ? link(`/well/${steps.after}`, "next ›", { class: "button", rel: "next" }) : null,
        groupId >= 0 ? link(`/perturbation/${groupId}`, "all wells of this perturbation", { class: "button" }) : null)));

  const views = [];
  if (facts.has_images && site) {
    const first = new ImageView(look, { title: `${wellTitle(well)} · ${title}`, explained: site.explained });
    views.push(first);
    if (control) views.push(new ImageView(look, { title: `Control: ${control.name} · ${control.perturbation}`, href: `/well/${control.id}` }));
    const number = el("span", { class: "small" });
    const overlay = el("div", {});
    const open = () => {
      first.explained = site.explained;
      first.open(site.id, `${wellTitle(well)}, image ${site.number}`).then(() => {
        if (control) views[1].open(twin(site, control)?.id, wellTitle(control));
      });
      if (site.problem) first.fail(site.problem);
      number.textContent = `image ${show(site.number)} of ${well.sites.length}`;
      overlay.replaceChildren(site.explained ? overlayPanel(look, rampBar("0", "1", "attribution")) : el("section", { class: "panel" }, el("h2", { text: "Why" }), el("p", { class: "small", text: facts.has_explanations ? "This image has no explanation." : "This folder has no explanations. `distangle explain RUN` makes them." })));
    };
    const pictures = el("div", { class: "sites", role: "group", "aria-label": "Images of this well" }, well.sites.map((item) => el("button", {
      type: "button", class: "site", "aria-pressed": String(item === site), disabled: !item.available, title: item.problem ?? "", "data-site": item.id, on: { click: (event) => {
        site = item;
        pictures.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button === event.currentTarget)));
        keep({ site: item.id });
        open();
      } },
    }, item.available ? el("img", { src: `/api/sites/${item.id}/thumbnail.png`, alt: "", loading: "lazy", width: 56, height: 56 }) : el("span", { class: "blank", text: "missing" }), `image ${show(item.number)}${item.explained ? " ◉" : ""}`)));
    const names = el("p", { class: "small files" });
    look.addEventListener("change", (event) => { if (event.detail === "ready") names.textContent = look.info?.files?.length ? `Files: ${look.info.files.join(", ")}` : ""; });
    place.append(el("div", { class: "well-frame" },
      el("div", { class: "images" }, el("div", { class: "pair-images" }, views.map((view) => view.node)),
        el("div", { class: "controls" }, number, el("button", { type: "button", text: "Whole image", on: { click: () => look.set("view", { zoom: 1, x: 0.5, y: 0.5 }) } }),
          el("span", { class: "small", text: "Scroll or + and − to zoom, drag to move; both images move together." })),
        pictures, well.sites.some((item) => item.explained) ? el("p", { class: "small", text: "◉ has an explanation" }) : null, names),
      el("div", { class: "side" }, channelPanel(look), overlay)));
    open();
    keepLook(look);
  } else {
    place.append(el("p", { class: "notice", text: facts.has_images ? "This well has no images." : "This folder has no images to show." }));
  }

  const lower = el("div", { class: "cards" });
  place.append(lower);
  if (well.attribution?.length) lower.append(el("section", { class: "card wide" }, el("h2", { text: "Which channels decided" }), attributionBars(well.attribution, facts.channels)));
  if (well.predictions?.length) {
    const row = (name) => [...Array(groups.n).keys()].find((k) => groups.at("perturbation", k) === name);
    const right = well.predictions[0]?.perturbation === well.perturbation;
    lower.append(el("section", { class: "card" }, el("h2", { text: "Prediction" }),
      el("p", { class: "small", text: well.role === "treatment" || !well.role ? (right ? "The network names the right perturbation." : "The network names another perturbation.") : "Most likely perturbations by the network." }),
      shareBars(well.predictions.map((item) => ({ text: item.perturbation, href: row(item.perturbation) === undefined ? null : `/perturbation/${row(item.perturbation)}`, value: item.probability, mark: item.perturbation === well.perturbation })), ["perturbation", "probability"])));
  }
  if (well.metadata?.length) lower.append(el("section", { class: "card" }, el("h2", { text: "About this well" }), el("dl", { class: "facts" }, well.metadata.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: ["Predicted as labeled", "Explained"].includes(name) && (value === 0 || value === 1) ? ["no", "yes"][value] : show(value) })])),
    el("p", {}, link(`/compare?a=well:${id}${control ? `&b=well:${control.id}` : ""}`, "Compare with another well"))));
  if (well.nearest?.length) {
    lower.append(el("section", { class: "card full" }, el("h2", { text: "Wells that look most alike" }), gallery(await items(well.nearest.map((item) => item.well), (k) => `similarity ${show(well.nearest[k].similarity)}`))));
  }
  const same = (well.same_perturbation ?? []).filter((other) => other !== id);
  if (same.length) lower.append(el("section", { class: "card full" }, el("h2", { text: `The same perturbation elsewhere (${same.length})` }), gallery(await items(same), 24)));
  return () => views.forEach((view) => view.dispose());
}

