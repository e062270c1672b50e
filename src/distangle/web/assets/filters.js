// Conditions on the columns of a table: part of the address, shown as boxes that can be changed.
import { debounce, el, show } from "./dom.js";
import { plainRole } from "./data.js";

const MANY = 60;

/** Read conditions from parameters f=COLUMN~in~A~B or f=COLUMN~between~LOW~HIGH; `key` is another name than f. */
export function readFilters(query, key = "f") {
  return query.getAll(key).map((text) => {
    const [name, kind, ...values] = text.split("~").map((part) => part.replaceAll("%7E", "~"));
    if (kind === "between") return { name, kind, low: values[0] === "" ? -Infinity : Number(values[0]), high: values[1] === "" ? Infinity : Number(values[1]) };
    return { name, kind: "in", values: new Set(values) };
  }).filter((filter) => filter.name);
}

/** Write conditions as parameters. */
export function writeFilters(filters) {
  const clean = (value) => String(value).replaceAll("~", "%7E");
  return filters.map((filter) => (filter.kind === "between"
    ? [clean(filter.name), "between", Number.isFinite(filter.low) ? filter.low : "", Number.isFinite(filter.high) ? filter.high : ""]
    : [clean(filter.name), "in", ...[...filter.values].map(clean)]).join("~"));
}

/** One byte per row: 1 where every condition holds. */
export function applyFilters(filters, n, columnOf) {
  const shown = new Uint8Array(n).fill(1);
  for (const filter of filters) {
    const column = columnOf(filter.name);
    if (!column) continue;
    if (filter.kind === "between" && column.kind === "number") {
      for (let i = 0; i < n; i++) if (!(column.values[i] >= filter.low && column.values[i] <= filter.high)) shown[i] = 0;
    } else if (filter.kind === "in" && column.kind === "text" && filter.values.size) {
      const fits = Uint8Array.from(column.levels, (level) => (filter.values.has(level) ? 1 : 0));
      for (let i = 0; i < n; i++) if (column.codes[i] < 0 || !fits[column.codes[i]]) shown[i] = 0;
    }
  }
  return shown;
}

function numberBox(filter, column, change) {
  const [low, high] = column.range();
  const box = (name, text, hint) => el("label", { class: "field small" }, el("span", { text }),
    el("input", { type: "number", step: "any", placeholder: show(hint), value: Number.isFinite(filter[name]) ? filter[name] : "",
      on: { input: debounce((event) => {
        const value = event.target.value;
        filter[name] = value === "" ? (name === "low" ? -Infinity : Infinity) : Number(value);
        change();
      }, 200) } }));
  return el("div", { class: "pair" }, box("low", "at least", low), box("high", "at most", high));
}

function textBox(filter, column, change) {
  const counts = column.counts();
  const order = [...counts.keys()].filter((code) => counts[code]).sort((a, b) => column.levels[a].localeCompare(column.levels[b], "en", { numeric: true }));
  const list = el("div", { class: "levels" });
  const fill = (text) => {
    const fits = order.filter((code) => column.levels[code].toLowerCase().includes(text.toLowerCase()));
    list.replaceChildren(...fits.slice(0, MANY).map((code) => {
      const level = column.levels[code];
      const box = el("input", { type: "checkbox", checked: filter.values.has(level), on: { change: () => {
        if (box.checked) filter.values.add(level);
        else filter.values.delete(level);
        change();
      } } });
      return el("label", { class: "tick" }, box, `${filter.name === "role" ? plainRole(level) : level} (${counts[code]})`);
    }), fits.length > MANY ? el("p", { class: "small", text: `${fits.length - MANY} more: type a part of the name` }) : "");
  };
  fill("");
  const find = order.length > 12 ? el("input", { type: "search", placeholder: "part of the name", "aria-label": `Find a value of ${filter.name}`, on: { input: (event) => fill(event.target.value) } }) : null;
  return el("div", {}, find, list);
}

/** A panel of conditions. `columns` are [name, label]; `change` is called after every change. */
export function filterPanel({ filters, columns, columnOf, change }) {
  const body = el("div", {});
  const update = () => {
    body.replaceChildren(...filters.map((filter, k) => {
      const column = columnOf(filter.name);
      const text = columns.find(([name]) => name === filter.name)?.[1] ?? filter.name;
      const remove = el("button", { type: "button", class: "quiet", "aria-label": `Remove the condition on ${text}`, text: "✕", on: { click: () => { filters.splice(k, 1); update(); change(); } } });
      return el("fieldset", { class: "filter" }, el("legend", { text }), remove,
        !column ? el("p", { text: "no such column" }) : column.kind === "number" ? numberBox(filter, column, change) : textBox(filter, column, change));
    }), adder);
  };
  const box = el("select", { on: { change: () => {
    const column = columnOf(box.value);
    if (!column) return;
    filters.push(column.kind === "number" ? { name: box.value, kind: "between", low: -Infinity, high: Infinity } : { name: box.value, kind: "in", values: new Set() });
    box.value = "";
    update();
  } } }, el("option", { value: "", text: "choose a column …" }), columns.map(([value, text]) => el("option", { value, text })));
  const adder = el("label", { class: "field" }, el("span", { text: "Show only" }), box);
  update();
  return body;
}
