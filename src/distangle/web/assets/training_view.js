// Curves of the training; they refresh while it runs.
import { el, show, svg } from "./dom.js";
import { ask, Table } from "./data.js";

const EVERY = 5000;
const WORDS = { train: "training images", held_out: "held-out images" };

function ticks(low, high) {
  const step = 10 ** Math.floor(Math.log10((high - low || 1) / 2));
  const size = (high - low) / step > 8 ? 5 * step : (high - low) / step > 4 ? 2 * step : step;
  const out = [];
  for (let value = Math.ceil(low / size) * size; value <= high + 1e-12; value += size) out.push(Number(value.toPrecision(6)));
  return out;
}

/** Group columns that share an axis: train_loss and held_out_loss, accuracies, and so on. */
export function families(names) {
  const groups = new Map();
  for (const name of names) {
    const part = name.includes("accuracy") ? "accuracy" : /(^|_)loss/.test(name) ? "loss" : name;
    if (!groups.has(part)) groups.set(part, []);
    groups.get(part).push(name);
  }
  return groups;
}

function curveName(name, family) {
  const rest = name.replace(/^(train|held_out)_/, "").replaceAll("_", " ");
  const side = Object.keys(WORDS).find((start) => name.startsWith(`${start}_`));
  return [rest === family && side ? "" : rest, side ? WORDS[side] : ""].filter(Boolean).join(", ");
}

function chart(title, names, x, table) {
  const [wide, high, left, right, top, low] = [460, 250, 52, 12, 12, 34];
  const series = names.map((name) => table.get(name));
  const values = series.flatMap((column) => Array.from(column.values)).filter((value) => !Number.isNaN(value));
  if (!values.length) return null;
  const share = title === "accuracy";
  const [y0, y1] = [share ? 0 : Math.min(0, ...values), share ? 1 : Math.max(...values)];
  const [x0, x1] = [x.range()[0], x.range()[1]];
  const px = (value) => left + ((value - x0) / (x1 - x0 || 1)) * (wide - left - right);
  const py = (value) => high - low - ((value - y0) / (y1 - y0 || 1)) * (high - low - top);
  const lines = series.map((column, k) => {
    const dots = [];
    column.values.forEach((value, row) => { if (!Number.isNaN(value)) dots.push([px(x.values[row]), py(value)]); });
    return dots.length === 1 ? svg("circle", { cx: dots[0][0], cy: dots[0][1], r: 3, class: `curve ${"abcdefg"[k % 7]}` })
      : svg("polyline", { points: dots.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" "), class: `curve ${"abcdefg"[k % 7]}` });
  });
  const last = (column) => Array.from(column.values).findLast((value) => !Number.isNaN(value));
  return el("section", { class: "card" }, el("h2", { text: title.replaceAll("_", " ") }),
    svg("svg", { viewBox: `0 0 ${wide} ${high}`, class: "chart", role: "img", "aria-label": `${title}: ${names.map((name, k) => `${curveName(name, title)} ${show(last(series[k]))}`).join(", ")}` },
      ticks(y0, y1).map((value) => [svg("line", { x1: left, x2: wide - right, y1: py(value), y2: py(value), class: "rule" }), svg("text", { x: left - 6, y: py(value) + 4, "text-anchor": "end", text: show(value) })]),
      ticks(x0, x1).filter(Number.isInteger).map((value) => svg("text", { x: px(value), y: high - low + 16, "text-anchor": "middle", text: String(value) })),
      svg("line", { x1: left, x2: wide - right, y1: high - low, y2: high - low, class: "axis" }),
      svg("text", { x: (left + wide) / 2, y: high - 3, "text-anchor": "middle", text: x.name }), lines),
    el("ul", { class: "curve-legend" }, names.map((name, k) => el("li", {}, svg("svg", { class: "swatch line", viewBox: "0 0 20 10", "aria-hidden": "true" }, svg("line", { x1: 0, x2: 20, y1: 5, y2: 5, class: `curve ${"abcdefg"[k % 7]}` })), `${curveName(name, title)}: ${show(last(series[k]))}`))));
}

/** Draw the view of the training. */
export async function render(place) {
  const state = el("p", { class: "lead" });
  const charts = el("div", { class: "cards" });
  place.append(el("h1", { text: "Training" }), state, charts);
  let timer = 0;
  let over = false;
  const draw = async () => {
    const answer = await (await ask("/api/training")).json();
    const table = new Table(answer.metrics);
    const axis = table.get("epoch") ?? table.get("step") ?? table.get(table.names[0]);
    if (!table.n) state.textContent = "No epoch has ended yet. The curves appear by themselves.";
    else {
      const epoch = axis.at(table.n - 1);
      state.textContent = answer.finished ? `Finished after ${axis.name} ${epoch}.` : `Still training: ${axis.name} ${epoch} has ended. The curves refresh every five seconds.`;
      const names = table.names.filter((name) => name !== axis.name && table.get(name).kind === "number");
      charts.replaceChildren(...[...families(names)].map(([title, group]) => chart(title, group, axis, table)).filter(Boolean));
    }
    place.dataset.rows = table.n;
    return answer.finished;
  };
  const loop = async () => {
    if (over) return;
    try {
      if (await draw()) return;
    } catch (problem) {
      state.textContent = [problem.message, problem.next].filter(Boolean).join(" ");
    }
    timer = setTimeout(loop, EVERY);
  };
  await loop();
  return () => {
    over = true;
    clearTimeout(timer);
  };
}
