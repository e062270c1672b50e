// A table that sorts, filters and saves what it shows.
import { debounce, el, link, show } from "./dom.js";
import { label as labelOf } from "./data.js";
import { filterPanel, applyFilters, readFilters, writeFilters } from "./filters.js";
import { csvButton } from "./gallery.js";
import { keep, params } from "./route.js";

const PAGE = 100;

function compare(column, up) {
  const sign = up ? 1 : -1;
  if (column.kind === "number") {
    return (a, b) => {
      const [x, y] = [column.values[a], column.values[b]];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
      return sign * (x - y) || a - b;
    };
  }
  const order = [...column.levels.keys()].sort((a, b) => column.levels[a].localeCompare(column.levels[b], "en", { numeric: true }));
  const rank = new Int32Array(order.length);
  order.forEach((code, place) => { rank[code] = place; });
  return (a, b) => {
    const [x, y] = [column.codes[a], column.codes[b]];
    if (x < 0 || y < 0) return (x < 0) - (y < 0) || a - b;
    return sign * (rank[x] - rank[y]) || a - b;
  };
}

/**
 * Build the table. `addressOf(row, name)` gives a link for a cell or null; `start` is [column, up] of the first order.
 * The order, the filters and the search words are kept in the address; `prefix` tells two tables of a page apart.
 */
export function grid({ table, labels, file, addressOf = () => null, start = null, hidden = [], titles = {}, format = (_, value) => show(value), prefix = "", title = "Table" }) {
  const own = table.names.filter((name) => !hidden.includes(name));
  const isEmpty = (name) => [...Array(table.n).keys()].every((row) => [null, ""].includes(table.get(name).at(row)));
  const names = own.filter((name) => !isEmpty(name));
  const empty = own.filter((name) => !names.includes(name));
  const text = (name) => titles[name] ?? labelOf(name, labels);
  const query = params();
  const [sortName, sortUp] = (query.get(`${prefix}sort`) ?? "").split("~");
  let order = table.get(sortName) ? [sortName, sortUp !== "down"] : start;
  let words = query.get(`${prefix}q`) ?? "";
  const filters = readFilters(query, `${prefix}f`);
  let rows = [];
  let shown = PAGE;
  const count = el("span", { class: "small", role: "status" });
  const body = el("tbody", {});
  const head = el("tr", {});
  const more = el("button", { type: "button", text: "Show more rows", on: { click: () => { shown += 5 * PAGE; fill(); } } });

  const select = () => {
    const open = applyFilters(filters, table.n, (name) => table.get(name));
    const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = names.map((name) => table.get(name)).filter((column) => column.kind === "text");
    const hits = parts.map((part) => texts.map((column) => Uint8Array.from(column.levels, (level) => (level.toLowerCase().includes(part) ? 1 : 0))));
    rows = [];
    for (let row = 0; row < table.n; row++) {
      if (open[row] && hits.every((hit) => hit.some((fits, k) => texts[k].codes[row] >= 0 && fits[texts[k].codes[row]]))) rows.push(row);
    }
    if (order) rows.sort(compare(table.get(order[0]), order[1]));
    count.textContent = rows.length === table.n ? `${table.n} rows` : `${rows.length} of ${table.n} rows`;
  };
  const fill = () => {
    body.replaceChildren(...rows.slice(0, shown).map((row) => el("tr", {}, names.map((name, k) => {
      const value = format(name, table.get(name).at(row));
      const address = addressOf(row, name);
      return el(k ? "td" : "th", { class: table.get(name).kind === "number" ? "number" : null, scope: k ? null : "row" }, address ? link(address, value) : value);
    }))));
    more.hidden = rows.length <= shown;
  };
  const drawHead = () => {
    head.replaceChildren(...names.map((name) => {
      const active = order?.[0] === name;
      const button = el("button", { type: "button", class: "sort", on: { click: () => {
        order = [name, active ? !order[1] : table.get(name).kind === "text"];
        keep({ [`${prefix}sort`]: `${order[0]}~${order[1] ? "up" : "down"}` });
        update();
        head.querySelectorAll("button")[names.indexOf(name)].focus();
      } } }, text(name), el("span", { "aria-hidden": "true", text: active ? (order[1] ? " ▲" : " ▼") : "" }));
      return el("th", { scope: "col", class: table.get(name).kind === "number" ? "number" : null, "aria-sort": active ? (order[1] ? "ascending" : "descending") : "none" }, button);
    }));
  };
  const update = () => {
    shown = PAGE;
    select();
    drawHead();
    fill();
  };
  const box = el("input", { type: "search", value: words, placeholder: "any words in a row", on: { input: debounce(() => { words = box.value; keep({ [`${prefix}q`]: words }); update(); }, 120) } });
  const panel = filterPanel({ filters, columns: names.map((name) => [name, text(name)]), columnOf: (name) => table.get(name), change: () => { keep({ [`${prefix}f`]: writeFilters(filters) }); update(); } });
  update();
  return el("div", { class: "grid" },
    el("div", { class: "controls" }, el("label", { class: "field" }, el("span", { text: "Search" }), box), count,
      csvButton(file, names, () => rows.map((row) => names.map((name) => table.get(name).at(row))), "Download these rows (CSV)")),
    el("details", { class: "filters", open: filters.length > 0 }, el("summary", { text: "Filter" }), panel),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, el("table", { class: "data" }, el("thead", {}, head), body)), more,
    empty.length ? el("p", { class: "small", text: `Without any value: ${empty.map(text).join(", ")}.` }) : null);
}
