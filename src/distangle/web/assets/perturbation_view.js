// One perturbation: its row of the hit list, its wells, what is like it and what is opposite.
import { el, link, notice, show, svg } from "./dom.js";
import { ask, json, plainRole, plates, wells } from "./data.js";
import { ramp, rampBar } from "./color.js";
import { attributionBars } from "./bars.js";
import { gallery } from "./gallery.js";

const WORDS = { mean_average_precision: "mAP", expected: "mAP by chance", q: "q (false discovery rate)", n_wells: "wells", n_plates: "plates", n_experiments: "experiments", role: "kind of well", channel: "main channel", nearest: "most alike", nearest_cosine: "similarity (cosine)", opposite: "most opposite", opposite_cosine: "similarity (cosine) of the opposite", cluster: "group", channel_shapley: "weight of the main channel" };

/** Wells as items of a gallery, by experiment and plate. */
export async function wellItems(ids) {
  const [table, board] = await Promise.all([wells(), plates()]);
  return ids.map((id) => {
    const plate = board[table.at("plate", id)];
    return { well: id, site: table.at("first_site", id) ?? -1, title: table.at("name", id), note: `${plate?.experiment} · plate ${plate?.name}` };
  });
}

const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function doseChart(doses, control) {
  const [wide, high, left, low] = [420, 200, 50, 36];
  const logs = doses.every(([dose]) => dose > 0);
  const xs = doses.map(([dose]) => (logs ? Math.log10(dose) : dose));
  const ys = [...doses.map(([, value]) => value), ...(Number.isFinite(control) ? [control] : [])];
  const place = (value, from, to, start, end) => start + ((value - from) / (to - from || 1)) * (end - start);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(0, ...ys), Math.max(...ys)];
  const dots = doses.map(([dose, value, n], k) => [place(xs[k], x0, x1, left, wide - 16), place(value, y0, y1, high - low, 12), dose, value, n]);
  return svg("svg", { viewBox: `0 0 ${wide} ${high}`, class: "chart", role: "img", "aria-label": `Effect by dose: ${doses.map(([dose, value]) => `${show(dose)}: ${show(value)}`).join("; ")}` },
    svg("line", { x1: left, x2: wide - 10, y1: high - low, y2: high - low, class: "axis" }), svg("line", { x1: left, x2: left, y1: 8, y2: high - low, class: "axis" }),
    Number.isFinite(control) ? svg("line", { x1: left, x2: wide - 10, y1: place(control, y0, y1, high - low, 12), y2: place(control, y0, y1, high - low, 12), class: "curve b" }) : null,
    svg("polyline", { points: dots.map(([x, y]) => `${x},${y}`).join(" "), class: "curve a" }),
    dots.map(([x, y, dose, value, n]) => [svg("circle", { cx: x, cy: y, r: 4, class: "dot" }, svg("title", { text: `dose ${show(dose)}: ${show(value)}, mean of ${many(n, "well")}` })), svg("text", { x, y: high - low + 14, "text-anchor": "middle", text: show(dose) })]),
    svg("text", { x: left - 6, y: 16, "text-anchor": "end", text: show(y1) }), svg("text", { x: left - 6, y: high - low, "text-anchor": "end", text: show(y0) }),
    svg("text", { x: (left + wide) / 2, y: high - 4, "text-anchor": "middle", text: logs ? "dose (logarithmic)" : "dose" }));
}

function others(title, rows) {
  return el("section", { class: "card" }, el("h2", { text: title }), el("table", { class: "bars" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "perturbation" }), el("th", { scope: "col", class: "number", text: "similarity (cosine)" }))),
    el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.id >= 0 && row.id !== null ? link(`/perturbation/${row.id}`, row.perturbation) : row.perturbation), el("td", { class: "number", text: show(row.similarity) }))))));
}

/** Fetch a mean map. */
async function fetchMap(row) {
  const response = await ask(`/api/maps/${row}`);
  return { values: new Float32Array(await response.arrayBuffer()), width: Number(response.headers.get("X-Width")), height: Number(response.headers.get("X-Height")) };
}

function mapPicture({ values, width, height }, top, text) {
  const canvas = el("canvas", { width, height, class: "mean-map", role: "img", "aria-label": text });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...ramp(Math.min(1, (values[i] || 0) / top)), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Mean maps of the explained images by cell type, beside those of controls, on one scale. */
async function meanMaps(maps) {
  const rows = maps.flatMap((item) => [item, ...item.controls]);
  const fields = new Map(await Promise.all([...new Map(rows.map((item) => [item.row, item])).keys()].map(async (row) => [row, await fetchMap(row)])));
  const top = Math.max(...[...fields.values()].map(({ values }) => values.reduce((most, value) => Math.max(most, value), 0))) || 1;
  const figure = (item, cellType) => {
    const text = `${item.perturbation}${cellType ? `, ${cellType}` : ""}: mean of ${[many(item.sites, "image"), item.wells && many(item.wells, "well")].filter(Boolean).join(" of ")}`;
    return el("figure", { class: "mean" }, mapPicture(fields.get(item.row), top, text), el("figcaption", { class: "small", text }));
  };
  return el("section", { class: "card full" }, el("h2", { text: "Mean map of where the network looked" }), rampBar("0", show(top), "attribution"),
    el("p", { class: "small", text: "Cells lie elsewhere in every image. A mean map shows only what depends on the place in the image, such as its edges; an even map is the expected one." }),
    el("div", { class: "means" }, maps.map((item) => [figure(item, item.cell_type), item.controls.map((control) => figure(control, item.cell_type))])),
    maps.some((item) => item.controls.length || ["negative control", "untreated"].includes(plainRole(item.role))) ? null : el("p", { class: "small", text: "No control well is explained: there is no map to compare with." }));
}

/** Draw the view of a perturbation. */
export async function render(place, { facts, id }) {
  if (!Number.isInteger(id)) throw new Error("The address names no perturbation.");
  const [effect, table] = await Promise.all([json(`/api/perturbations/${id}`), wells()]);
  const roles = [...new Set(effect.wells.map((well) => plainRole(table.at("role", well))))].filter(Boolean);
  place.append(el("p", { class: "trail" }, link("/hits", facts.has_hits ? "Hit list" : "Perturbations"), " › perturbation"),
    el("div", { class: "title-row" }, el("h1", { text: effect.perturbation }), roles.map((role) => el("span", { class: "tag", text: role })),
      el("span", { class: "steps" }, link(`/plates?only=${encodeURIComponent(effect.perturbation)}`, "on the plates", { class: "button" }),
        facts.has_map ? link(`/map?q=${encodeURIComponent(effect.perturbation)}`, "on the map", { class: "button" }) : null,
        link(`/compare?a=perturbation:${id}`, "compare", { class: "button" }))));
  const cards = el("div", { class: "cards" });
  place.append(cards);
  const near = el("div", { class: "stack" }, effect.nearest?.length ? others("Most alike", effect.nearest) : null, effect.opposite?.length ? others("Most opposite", effect.opposite) : null);
  if (effect.row?.length) cards.append(el("section", { class: "card" }, el("h2", { text: facts.has_hits ? "Row of the hit list" : "Counts" }), el("dl", { class: "facts" }, effect.row.filter(([name, value]) => value !== null && value !== "" && !name.startsWith("Metadata_") && name !== "perturbation").flatMap(([name, value]) => [el("dt", { text: WORDS[name] ?? name.replaceAll("_", " ") }), el("dd", { text: name === "role" ? plainRole(value) : show(value) })]))));
  if (effect.attribution?.length) cards.append(el("section", { class: "card wide" }, el("h2", { text: "Which channels decide" }), attributionBars(effect.attribution, facts.channels)));
  if (near.children.length) cards.append(near);
  if (effect.doses?.length > 1) cards.append(el("section", { class: "card wide" }, el("h2", { text: "Effect by dose" }), el("p", { class: "small", text: `Mean length of the aligned profiles of each dose${Number.isFinite(effect.control_effect) ? "; dashed: of all negative controls" : ""}.` }), doseChart(effect.doses, effect.control_effect)));
  if (effect.maps?.length) {
    const place = el("section", { class: "card full" }, el("p", { class: "small", text: "Loading the mean maps …" }));
    cards.append(place);
    meanMaps(effect.maps).then((card) => place.replaceWith(card), (problem) => place.replaceChildren(notice(problem.message, problem.next)));
  }
  cards.append(el("section", { class: "card full" }, el("h2", { text: `Wells (${effect.wells.length})` }), gallery(await wellItems(effect.wells))));
}
