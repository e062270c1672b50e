// A map of sites, wells or perturbations: what lies together looks alike.
import { announce, choice, debounce, el, link, show } from "./dom.js";
import { Column, isYesNo, label, levelsThatFit, perturbations, plainRole, plates, points, sites, wells } from "./data.js";
import { legend, scale } from "./color.js";
import { applyFilters, filterPanel, readFilters, writeFilters } from "./filters.js";
import { csvButton, gallery } from "./gallery.js";
import { inside, readPolygon, thin, writePolygon } from "./lasso.js";
import { go, keep, params } from "./route.js";
import { Scatter } from "./scatter.js";

const RINGS = 400;
const WHAT = { sites: "image", wells: "well", perturbations: "perturbation" };
const METHODS = {
  openTSNE: "t-SNE: look at which points are neighbors; distances across the map mean little",
  umap: "UMAP: look at which points are neighbors; distances across the map mean little",
  pca: "the two directions in which they differ most, by principal components",
};

/** The points with every column of their site, well or perturbation. */
class Cloud {
  constructor(cloud, tables, facts) {
    Object.assign(this, cloud, tables);
    this.facts = facts;
    this.cache = new Map();
    const ids = new Int32Array(cloud.ids);
    const look = (rows, column) => {
      const out = new Int32Array(rows.length);
      for (let i = 0; i < rows.length; i++) out[i] = column.values[rows[i]];
      return out;
    };
    this.site = this.of === "sites" ? ids : null;
    this.well = this.of === "sites" ? look(ids, tables.sites.get("well")) : this.of === "wells" ? ids : null;
    this.group = this.of === "perturbations" ? ids : look(this.well, tables.wells.get("perturbation_id"));
  }

  get names() {
    const hidden = new Set(["row", "column", "first_site", "perturbation_id", "plate", "n_sites", "well", "number"]);
    if (this.of === "perturbations") return this.perturbations.names;
    const own = ["plate", ...this.wells.names.filter((name) => !hidden.has(name))];
    const extra = this.of === "sites" ? this.sites.names.filter((name) => !hidden.has(name) && !own.includes(name)) : [];
    return [...own, ...extra].filter((name, k, all) => all.indexOf(name) === k);
  }

  column(name) {
    if (this.cache.has(name)) return this.cache.get(name);
    let column;
    if (this.of === "perturbations") column = this.perturbations.get(name)?.take(this.ids);
    else if (name === "plate") {
      const levels = this.board.map((plate) => `${plate.experiment} · ${plate.name}`);
      column = new Column("plate", { kind: "text", levels, codes: Array.from(this.well, (well) => this.wells.get("plate").values[well]) });
    } else if (this.wells.get(name)) column = this.wells.get(name).take(this.well);
    else if (this.of === "sites" && this.sites.get(name)) column = this.sites.get(name).take(this.ids);
    this.cache.set(name, column);
    return column;
  }

  firstSite(i) {
    return this.site ? this.site[i] : this.well ? this.wells.at("first_site", this.well[i]) ?? -1 : -1;
  }

  title(i) {
    if (this.of === "perturbations") return this.perturbations.at("perturbation", this.ids[i]) ?? "";
    const plate = this.board[this.wells.at("plate", this.well[i])];
    const site = this.site ? ` · image ${show(this.sites.at("number", this.site[i]))}` : "";
    return `${plate?.experiment} · plate ${plate?.name} · ${this.wells.at("name", this.well[i])}${site}`;
  }

  address(i) {
    if (this.of === "perturbations") return `/perturbation/${this.ids[i]}`;
    return `/well/${this.well[i]}${this.site ? `?site=${this.site[i]}` : ""}`;
  }
}

async function load(of, facts) {
  const [cloud, board, w, s, p] = await Promise.all([points(of), plates(), wells(), of === "sites" ? sites() : null, perturbations()]);
  return new Cloud(cloud, { board, wells: w, sites: s, perturbations: p }, facts);
}

function tooltip(cloud, colorBy, colorLabel) {
  const box = el("div", { class: "tip", role: "tooltip", hidden: true });
  return {
    node: box,
    showAt(i, x, y, width) {
      box.hidden = i < 0;
      if (i < 0) return;
      const site = cloud.firstSite(i);
      const rows = [["perturbation", cloud.column("perturbation")?.at(i)], ["kind", plainRole(cloud.column("role")?.at(i))], [colorLabel(), isYesNo(colorBy()) ? ["no", "yes"][cloud.column(colorBy())?.at(i)] : cloud.column(colorBy())?.at(i)]];
      box.replaceChildren(
        site >= 0 && cloud.facts.has_images ? el("img", { src: `/api/sites/${site}/thumbnail.png`, alt: "", width: 96, height: 96 }) : "",
        el("div", {}, el("strong", { text: cloud.title(i) }), el("dl", {}, rows.filter(([name, value], k) => value !== null && value !== "" && value !== undefined && rows.findIndex((row) => row[0] === name) === k).flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: show(value) })]))));
      box.style.left = `${Math.max(4, Math.min(x + 14, width - 250))}px`;
      box.style.top = `${y + 14}px`;
    },
  };
}

/** Draw the view of the map. */
export async function render(place, { facts }) {
  const query = params();
  const cloud = await load(query.get("of") ?? facts.maps?.[0] ?? "sites", facts);
  const names = cloud.names.map((name) => [name, label(name, facts.columns)]);
  const colorNames = names.filter(([name]) => !["name"].includes(name));
  let colorBy = query.get("color") ?? (cloud.column(facts.default_color_by) ? facts.default_color_by : colorNames[0][0]);
  if (!cloud.column(colorBy)) colorBy = colorNames[0][0];
  const filters = readFilters(query);
  let words = query.get("q") ?? "";
  let lasso = query.get("tool") === "lasso";
  const canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": "scatter plot", "aria-label": `Map of ${cloud.n} ${WHAT[cloud.of]}s. Arrow keys pan, plus and minus zoom, zero shows all.` });
  const key = el("div", { class: "legends" });
  const chosen = el("section", { class: "selection", "aria-label": "Selection" });
  const count = el("p", { class: "small count" });
  const tip = tooltip(cloud, () => colorBy, () => label(colorBy, facts.columns));
  const stage = el("div", { class: "stage" }, canvas, tip.node);
  const scatter = new Scatter(canvas, cloud.xy);
  canvas.scatter = scatter;

  const paint = () => {
    const colors = scale(cloud.column(colorBy));
    scatter.paint((i) => colors.of(i));
    key.replaceChildren(legend(colors, label(colorBy, facts.columns), colorBy === "role" ? plainRole : undefined));
  };
  const seek = () => {
    const text = words.trim().toLowerCase();
    scatter.rings = [];
    if (text) {
      const columns = ["perturbation", "name", "plate", ...cloud.names.filter((name) => cloud.column(name)?.kind === "text")].map((name) => cloud.column(name)).filter(Boolean);
      const fits = [...new Set(columns)].map((column) => ({ column, hit: levelsThatFit(column, text) }));
      const exact = fits.filter(({ column, hit }) => column.levels.some((level, k) => hit[k] && level.toLowerCase() === text));
      const used = exact.length ? exact : fits;
      let total = 0;
      for (let i = 0; i < cloud.n; i++) {
        if (scatter.shown[i] && used.some(({ column, hit }) => column.codes[i] >= 0 && hit[column.codes[i]])) {
          total++;
          if (scatter.rings.length < RINGS) scatter.rings.push(i);
        }
      }
      matches.textContent = `${total} found${total > RINGS ? `, ${RINGS} of them ringed` : ""}`;
    } else matches.textContent = "";
    scatter.request();
  };
  const matches = el("span", { class: "small", role: "status" });
  const choose = () => {
    const polygon = scatter.polygon;
    chosen.replaceChildren();
    if (!polygon) return;
    const rows = inside(cloud.xy, polygon).filter((i) => scatter.shown[i]);
    rows.sort((a, b) => cloud.group[a] - cloud.group[b] || a - b);
    const noun = rows.length === 1 ? WHAT[cloud.of] : `${WHAT[cloud.of]}s`;
    const table = cloud.column("perturbation");
    const tally = new Map();
    rows.forEach((i) => tally.set(cloud.group[i], (tally.get(cloud.group[i]) ?? 0) + 1));
    const top = [...tally].sort((a, b) => b[1] - a[1]).slice(0, 12);
    const lassoText = writePolygon(polygon);
    chosen.append(el("h2", { text: `Selection: ${rows.length} ${noun}` }),
      el("div", { class: "controls" },
        csvButton("selection.csv", [WHAT[cloud.of], "x", "y", ...cloud.names], () => rows.map((i) => [cloud.title(i), cloud.xy[2 * i], cloud.xy[2 * i + 1], ...cloud.names.map((name) => cloud.column(name)?.at(i))])),
        link(`/plates?of=${cloud.of}&lasso=${lassoText}`, "Show on the plates", { class: "button" }),
        el("button", { type: "button", text: "Clear", on: { click: () => { scatter.polygon = null; keep({ lasso: null }); choose(); scatter.request(); } } })),
      top.length ? el("p", { class: "small" }, "Mostly: ", top.map(([id, times], k) => [k ? ", " : "", id >= 0 ? link(`/perturbation/${id}`, cloud.perturbations.at("perturbation", id) ?? "–") : "none", ` (${times})`])) : null,
      cloud.of === "perturbations"
        ? el("ul", {}, rows.slice(0, 200).map((i) => el("li", {}, link(cloud.address(i), table?.at(i) ?? "–"))))
        : gallery(rows.map((i) => ({ site: cloud.firstSite(i), well: cloud.well[i], title: table?.at(i) ?? "", note: cloud.title(i) }))));
    announce(`${rows.length} ${noun} selected`);
  };
  const refilter = () => {
    scatter.shown = applyFilters(filters, cloud.n, (name) => cloud.column(name));
    const shown = scatter.shown.reduce((sum, one) => sum + one, 0);
    count.textContent = `${shown === cloud.n ? "" : `${shown.toLocaleString("en")} of `}${cloud.n.toLocaleString("en")} ${WHAT[cloud.of]}s`;
    seek();
    choose();
  };
  const keepView = debounce(() => {
    const { x, y, scale: size } = scatter.view;
    keep({ at: [x, y, size / scatter.whole].map((value) => Number(value.toPrecision(6))).join(",") });
  }, 200);
  const setTool = (on) => {
    lasso = on;
    toolButton.setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("lasso", on);
  };
  const toolButton = el("button", { type: "button", text: "Lasso", title: "Draw a line around points (or hold Shift and drag)", on: { click: () => setTool(!lasso) } });
  const box = el("input", { type: "search", value: words, placeholder: "perturbation, gene, well, plate", on: { input: debounce(() => { words = box.value; keep({ q: words }); seek(); }, 150) } });
  place.append(el("h1", { text: "Map" }),
    el("p", { class: "lead", text: `Each point is ${cloud.of === "sites" ? "an image" : `a ${WHAT[cloud.of]}`}; points that lie together look alike to the network (${METHODS[cloud.method] ?? cloud.method}).` }),
    el("div", { class: "controls" },
      facts.maps?.length > 1 ? choice("Points", facts.maps.map((name) => [name, `${WHAT[name] ?? name}s`]), cloud.of, (value) => go(`/map?of=${value}`)) : null,
      choice("Color by", colorNames, colorBy, (value) => { colorBy = value; keep({ color: value }); paint(); }),
      el("label", { class: "field" }, el("span", { text: "Ring" }), box), matches, toolButton,
      el("button", { type: "button", text: "Select all shown", on: { click: () => {
        const { left, right, low, high } = scatter.box;
        const [dx, dy] = [0.01 * (right - left) || 1, 0.01 * (high - low) || 1];
        scatter.polygon = [[left - dx, low - dy], [right + dx, low - dy], [right + dx, high + dy], [left - dx, high + dy]];
        keep({ lasso: writePolygon(scatter.polygon) });
        choose();
        scatter.request();
      } } }),
      el("button", { type: "button", text: "+", "aria-label": "Zoom in", on: { click: () => zoomMiddle(1.5) } }),
      el("button", { type: "button", text: "−", "aria-label": "Zoom out", on: { click: () => zoomMiddle(1 / 1.5) } }),
      el("button", { type: "button", text: "Show all", on: { click: () => { scatter.home(); keep({ at: null }); } } })),
    el("div", { class: "map-frame" }, el("div", {}, stage, key),
      el("aside", { class: "side", "aria-label": "Filter" }, count, filterPanel({ filters, columns: names, columnOf: (name) => cloud.column(name), change: () => { keep({ f: writeFilters(filters) }); refilter(); } }))),
    chosen);
  const zoomMiddle = (factor) => { scatter.zoom(factor, canvas.clientWidth / 2, canvas.clientHeight / 2); keepView(); };

  listen({ canvas, scatter, tip, isLasso: () => lasso, open: (i) => go(cloud.address(i)), moved: keepView, zoomMiddle,
    closed: (line) => {
      scatter.polygon = line;
      keep({ lasso: line ? writePolygon(line) : null });
      setTool(false);
      choose();
    } });
  setTool(lasso);
  scatter.polygon = readPolygon(query.get("lasso"));
  scatter.resize();
  const at = (query.get("at") ?? "").split(",").map(Number);
  if (at.length === 3 && at.every(Number.isFinite)) scatter.view = { x: at[0], y: at[1], scale: at[2] * scatter.whole };
  paint();
  refilter();
  const observer = new ResizeObserver(() => scatter.resize());
  observer.observe(stage);
  document.addEventListener("theme", paint);
  return () => {
    observer.disconnect();
    document.removeEventListener("theme", paint);
  };
}

/** Mouse, touch and keys of the map. */
function listen({ canvas, scatter, tip, isLasso, open, moved, zoomMiddle, closed }) {
  const touches = new Map();
  let line = null;
  let travel = 0;
  let spread = 0;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = spot(event);
    canvas.setPointerCapture(event.pointerId);
    touches.set(event.pointerId, [x, y]);
    travel = 0;
    spread = 0;
    tip.showAt(-1);
    if ((isLasso() || event.shiftKey) && touches.size === 1) line = [scatter.toMap(x, y)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = spot(event);
    const before = touches.get(event.pointerId);
    if (!before) {
      const i = scatter.pick(x, y);
      canvas.classList.toggle("over", i >= 0);
      tip.showAt(i, x, y, canvas.clientWidth);
      return;
    }
    touches.set(event.pointerId, [x, y]);
    travel += Math.hypot(x - before[0], y - before[1]);
    if (touches.size === 2) {
      line = null;
      const [a, b] = [...touches.values()];
      const apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (spread) {
        scatter.zoom(apart / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        scatter.pan((x - before[0]) / 2, (y - before[1]) / 2); // the way of the middle between the fingers
      }
      spread = apart;
      moved();
    } else if (line) {
      line.push(scatter.toMap(x, y));
      scatter.polygon = line;
      scatter.request();
    } else {
      scatter.pan(x - before[0], y - before[1]);
      moved();
    }
  });
  const end = (event) => {
    if (!touches.delete(event.pointerId)) return;
    const [x, y] = spot(event);
    if (line) {
      closed(line.length > 3 ? thin(line) : null);
      line = null;
    } else if (travel < 4 && event.type === "pointerup") {
      const i = scatter.pick(x, y);
      if (i >= 0) open(i);
    }
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => tip.showAt(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    scatter.zoom(Math.exp(-event.deltaY * 0.0015), ...spot(event));
    moved();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 40;
    const move = { ArrowUp: [0, step], ArrowDown: [0, -step], ArrowLeft: [step, 0], ArrowRight: [-step, 0] }[event.key];
    if (move) scatter.pan(...move);
    else if (event.key === "+" || event.key === "=") zoomMiddle(1.4);
    else if (event.key === "-") zoomMiddle(1 / 1.4);
    else if (event.key === "0") scatter.home();
    else return;
    event.preventDefault();
    moved();
  });
}
