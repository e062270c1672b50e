// Every plate of an experiment side by side; a click opens the well.
import { announce, choice, debounce, el, link, show } from "./dom.js";
import { isYesNo, label, levelsThatFit, plainRole, plates, points, sites, wells } from "./data.js";
import { legend, scale, swatch, theme } from "./color.js";
import { go, keep, params } from "./route.js";
import { inside, readPolygon } from "./lasso.js";

const GAP = 1;
const CONTROLS = new Set(["untreated", "negative_control", "positive_control"]);

/** Letters of a row, 0-based: A, B, … Z, AA. */
export function rowName(row) {
  return row < 26 ? String.fromCharCode(65 + row) : String.fromCharCode(64 + Math.floor(row / 26)) + String.fromCharCode(65 + (row % 26));
}

/** Draw a mark for a control inside a well. */
function drawMark(context, role, x, y, size) {
  const middle = [x + size / 2, y + size / 2];
  const r = Math.max(1.4, size * 0.22);
  context.lineWidth = Math.max(1, size * 0.11);
  context.beginPath();
  if (role !== "positive_control") context.arc(...middle, r, 0, 7);
  else {
    context.moveTo(middle[0], middle[1] - r * 1.4);
    context.lineTo(middle[0] + r * 1.4, middle[1]);
    context.lineTo(middle[0], middle[1] + r * 1.4);
    context.lineTo(middle[0] - r * 1.4, middle[1]);
    context.closePath();
  }
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  context.fill();
  context.stroke();
}

/** A plate on a canvas: arrow keys move, Enter or a click opens the well. */
class PlateMap {
  constructor(plate, rows, table) {
    this.plate = plate;
    this.table = table;
    this.byPlace = new Map(rows.map((row) => [table.at("row", row) * 1000 + table.at("column", row), row]));
    this.cursor = null;
    this.canvas = el("canvas", {
      tabindex: 0, role: "application", "aria-roledescription": "plate map",
      "aria-label": `${plate.experiment}, plate ${plate.name}: ${rows.length} of ${plate.n_rows * plate.n_columns} wells. Arrow keys move, Enter opens a well.`,
    });
    this.hint = el("p", { class: "hint", text: " " });
    const { n_rows: high, n_columns: wide } = plate;
    this.node = el("section", { class: "plate", "data-plate": plate.id },
      el("h2", { text: `Plate ${plate.name}` }),
      el("p", { class: "small", text: `${high} × ${wide} · ${rows.length} wells` }), this.canvas, this.hint);
    this.canvas.addEventListener("pointermove", (event) => this.point(this.placeOf(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (event) => this.open(this.placeOf(event)));
    this.canvas.addEventListener("keydown", (event) => this.press(event));
    this.canvas.addEventListener("blur", () => this.point(null));
  }

  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.margin) / this.size);
    const row = Math.floor((event.clientY - box.top - this.margin) / this.size);
    const fits = row >= 0 && column >= 0 && row < this.plate.n_rows && column < this.plate.n_columns;
    return fits ? { row, column } : null;
  }

  /** The well at a place, or undefined where the plate has none. */
  wellAt(place) {
    return place ? this.byPlace.get(place.row * 1000 + place.column) : undefined;
  }

  /** The middle of a well in pixels of the canvas, for whoever points at it. */
  centerOf(row, column) {
    return { x: this.margin + (column + 0.5) * this.size, y: this.margin + (row + 0.5) * this.size };
  }

  point(place) {
    if (place?.row === this.cursor?.row && place?.column === this.cursor?.column) return;
    this.cursor = place;
    const well = this.wellAt(place);
    const name = place ? `${rowName(place.row)}${String(place.column + 1).padStart(2, "0")}` : "";
    const { table, colorBy } = this;
    const parts = !place ? [" "] : well === undefined ? [name, "no well in this screen"] : [
      table.at("name", well), table.at("perturbation", well) ?? "no perturbation", plainRole(table.at("role", well)),
      ["perturbation", "role"].includes(colorBy) ? "" : `${this.title}: ${show(isYesNo(colorBy) ? ["no", "yes"][table.at(colorBy, well)] : table.at(colorBy, well))}`];
    this.hint.textContent = parts.filter(Boolean).join(" · ");
    this.canvas.classList.toggle("over", well !== undefined);
    if (document.activeElement === this.canvas && place) announce(this.hint.textContent);
    this.draw();
  }

  open(place) {
    const well = this.wellAt(place);
    if (well !== undefined) go(`/well/${well}`);
  }

  press(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (move) {
      event.preventDefault();
      const from = this.cursor ?? { row: -move[0], column: -move[1] };
      const clip = (value, top) => Math.max(0, Math.min(top - 1, value));
      this.point({ row: clip(from.row + move[0], this.plate.n_rows), column: clip(from.column + move[1], this.plate.n_columns) });
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.open(this.cursor);
    }
  }

  /** Fit the wells to the width there is, in CSS pixels. */
  fit(width) {
    this.margin = 16;
    this.size = Math.max(5, Math.min(26, Math.floor((width - this.margin - 2) / this.plate.n_columns)));
    if (width < 300) this.size = Math.max(3, (width - this.margin - 2) / this.plate.n_columns);
    this.ratio = Math.min(2, devicePixelRatio || 1);
    const [wide, high] = [this.margin + this.size * this.plate.n_columns + 2, this.margin + this.size * this.plate.n_rows + 2];
    this.canvas.width = Math.round(wide * this.ratio);
    this.canvas.height = Math.round(high * this.ratio);
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${high}px`;
  }

  paint(colors, colorBy, title, highlight) {
    Object.assign(this, { colors, colorBy, title, highlight });
    this.draw();
  }

  draw() {
    if (!this.colors || !this.size) return;
    const { size, margin, plate, table } = this;
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const [line, soft, ink] = [theme("line"), theme("soft"), theme("ink")];
    context.font = `${Math.max(8, Math.min(11, size - 1))}px system-ui, sans-serif`;
    context.fillStyle = soft;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const every = size >= 17 ? 1 : size >= 8 ? 2 : 5;
    for (let c = 0; c < plate.n_columns; c++) if (every === 1 || (c + 1) % every === 0 || c === 0) context.fillText(String(c + 1), margin + (c + 0.5) * size, margin / 2);
    for (let r = 0; r < plate.n_rows; r++) if (size >= 8 || r % 4 === 0) context.fillText(rowName(r), margin / 2, margin + (r + 0.5) * size);
    for (let r = 0; r < plate.n_rows; r++) {
      for (let c = 0; c < plate.n_columns; c++) {
        const [x, y] = [margin + c * size + GAP / 2, margin + r * size + GAP / 2];
        const well = this.byPlace.get(r * 1000 + c);
        if (well === undefined) {
          context.strokeStyle = line;
          context.lineWidth = 1;
          context.strokeRect(x + 0.5, y + 0.5, size - GAP - 1, size - GAP - 1);
          continue;
        }
        const color = this.colors.of(well);
        context.fillStyle = color ?? theme("empty");
        context.globalAlpha = this.highlight && !this.highlight.has(well) ? 0.22 : 1;
        context.fillRect(x, y, size - GAP, size - GAP);
        if (color === null && !CONTROLS.has(table.at("role", well))) {
          context.strokeStyle = soft;
          context.lineWidth = 1;
          context.beginPath();
          context.moveTo(x + 1, y + size - GAP - 1);
          context.lineTo(x + size - GAP - 1, y + 1);
          context.stroke();
        }
        const role = table.at("role", well);
        if (CONTROLS.has(role)) drawMark(context, role, x, y, size - GAP);
        context.globalAlpha = 1;
      }
    }
    if (this.cursor) {
      context.strokeStyle = ink;
      context.lineWidth = 2;
      context.strokeRect(margin + this.cursor.column * size, margin + this.cursor.row * size, size, size);
    }
  }
}

/** The columns a plate or a map can be colored by, as [name, label]. */
export function colorChoices(table, facts) {
  const names = ["perturbation", "role", ...(facts.columns ?? []).map((column) => column.name)];
  return [...new Set(names)].filter((name) => table.get(name)).map((name) => [name, label(name, facts.columns)]);
}

async function wellsOfLasso() {
  const polygon = readPolygon(params().get("lasso"));
  if (!polygon) return null;
  const cloud = await points(params().get("of") ?? "sites");
  const of = cloud.of;
  const rows = inside(cloud.xy, polygon);
  const table = of === "sites" ? await sites() : null;
  if (of === "perturbations") {
    const groups = new Set(rows.map((i) => cloud.ids[i]));
    const all = await wells();
    return new Set([...Array(all.n).keys()].filter((well) => groups.has(all.at("perturbation_id", well))));
  }
  return new Set(rows.map((i) => (table ? table.at("well", cloud.ids[i]) : cloud.ids[i])));
}

/** Draw the view of plates. */
export async function render(place, { facts }) {
  const [board, table, picks] = await Promise.all([plates(), wells(), wellsOfLasso()]);
  if (!board.length || !table.n) {
    place.append(el("h1", { text: "Plates" }), el("p", { class: "notice", text: "This folder has no wells." }));
    return null;
  }
  const experiments = [...new Set(board.map((plate) => plate.experiment))];
  const groups = new Map();
  const column = table.get("plate");
  for (let row = 0; row < table.n; row++) {
    const id = column.values[row];
    if (!groups.has(id)) groups.set(id, []);
    groups.get(id).push(row);
  }
  const first = picks?.size ? board[column.values[[...picks][0]]]?.experiment : null;
  let experiment = params().get("experiment") ?? first ?? experiments[0];
  if (!experiments.includes(experiment)) experiment = experiments[0];
  const choices = colorChoices(table, facts);
  let colorBy = params().get("color") ?? facts.default_color_by ?? "perturbation";
  if (!table.get(colorBy)) colorBy = choices[0][0];
  let only = params().get("only") ?? "";
  const title = el("h1", {});
  const strip = el("div", { class: "plates-grid" });
  const key = el("div", { class: "legends" });
  let maps = [];

  const highlight = () => {
    if (!only) return picks;
    const name = table.get("perturbation");
    const fits = levelsThatFit(name, only);
    return new Set([...Array(table.n).keys()].filter((row) => name.codes[row] >= 0 && fits[name.codes[row]] && (!picks || picks.has(row))));
  };
  const paint = () => {
    const colors = scale(table.get(colorBy));
    const set = highlight();
    maps.forEach((map) => map.paint(colors, colorBy, label(colorBy, facts.columns), set));
    key.replaceChildren(legend(colors, label(colorBy, facts.columns), colorBy === "role" ? plainRole : undefined),
      el("div", { class: "legend" },
        el("span", { class: "entry" }, el("span", { class: "mark ring" }), "negative control"),
        el("span", { class: "entry" }, el("span", { class: "mark rhomb" }), "positive control"),
        el("span", { class: "entry" }, el("span", { class: "mark absent" }), "no well in this screen"),
        table.get(colorBy).kind === "number" ? el("span", { class: "entry" }, el("span", { class: "mark slash" }), "no value") : null));
  };
  const observer = new ResizeObserver(debounce(() => { fit(); paint(); }, 40));
  const fit = () => maps.forEach((map) => map.fit(map.node.clientWidth));
  const build = () => {
    const mine = board.filter((plate) => plate.experiment === experiment);
    title.textContent = `Plates of ${experiment}`;
    maps = mine.map((plate) => new PlateMap(plate, groups.get(plate.id) ?? [], table));
    maps.forEach((map) => { map.canvas.plateMap = map; });
    strip.classList.toggle("few", maps.length === 1);
    strip.replaceChildren(...maps.map((map) => map.node));
    fit();
    paint();
  };
  const search = el("input", { type: "search", value: only, placeholder: "name, or part of it" });
  search.addEventListener("input", debounce(() => { only = search.value; keep({ only }); paint(); }, 150));
  place.append(title,
    el("div", { class: "controls" },
      experiments.length > 1 ? choice("Experiment", experiments.map((name) => [name, name]), experiment, (value) => { experiment = value; keep({ experiment }); build(); }) : null,
      choice("Color by", choices, colorBy, (value) => { colorBy = value; keep({ color: value }); paint(); }),
      el("label", { class: "field" }, el("span", { text: "Show only perturbation" }), search),
      picks ? el("span", { class: "chip" }, swatch("#0072b2"), `${picks.size} wells of the selection`, link("/plates", "show all", {})) : null),
    key, strip);
  build();
  observer.observe(strip);
  const redraw = () => paint();
  document.addEventListener("theme", redraw);
  return () => {
    observer.disconnect();
    document.removeEventListener("theme", redraw);
  };
}
