// Bars of channels with the range that chance gives, and of probabilities.
import { el, link, show, svg } from "./dom.js";

const WIDE = 300;
const ROW = 26;

/** Channel attribution: dot with interval, grey band = 95 % of the null, star where p <= 0.05. */
export function attributionBars(rows, channels) {
  const numbers = rows.flatMap((row) => [row.value, row.low, row.high, row.null_low, row.null_high, 0]).filter((value) => Number.isFinite(value));
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const x = (value) => 8 + ((value - low) / (high - low || 1)) * (WIDE - 16);
  const known = (...values) => values.every((value) => Number.isFinite(value));
  const name = (row) => channels.find((channel) => channel.id === row.channel || channel.name === row.channel)?.label ?? String(row.channel);
  const tested = rows.filter((row) => known(row.p));
  const words = ["What each channel adds to the network's score (Shapley value; right of the line: in favor)",
    rows.some((row) => known(row.null_low, row.null_high)) ? `grey: where 95 % of ${rows[0].null_wells || "the"} control wells lie` : "",
    rows.some((row) => known(row.low, row.high)) ? "thick: 95 % interval" : ""].filter(Boolean);
  const table = el("table", { class: "bars" }, el("caption", { class: "small", text: words.join("; ") }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "channel" }), el("th", { scope: "col", text: "attribution" }), el("th", { scope: "col", class: "number", text: "value" }), tested.length ? el("th", { scope: "col", class: "number", text: "p" }) : null)),
    el("tbody", {}, rows.map((row) => {
      const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${ROW}`, class: "bar", role: "img", "aria-label": `${name(row)}: ${show(row.value)}${known(row.null_low, row.null_high) ? `, control wells ${show(row.null_low)} to ${show(row.null_high)}` : ""}` },
        known(row.null_low, row.null_high) ? svg("rect", { x: x(row.null_low), y: 4, width: Math.max(1, x(row.null_high) - x(row.null_low)), height: ROW - 8, class: "null" }) : null,
        svg("line", { x1: x(0), x2: x(0), y1: 0, y2: ROW, class: "zero" }),
        known(row.value) ? svg("line", { x1: x(0), x2: x(row.value), y1: ROW / 2, y2: ROW / 2, class: "stem" }) : null,
        known(row.low, row.high) ? svg("line", { x1: x(row.low), x2: x(row.high), y1: ROW / 2, y2: ROW / 2, class: "interval" }) : null,
        known(row.value) ? svg("circle", { cx: x(row.value), cy: ROW / 2, r: 4.5, class: "dot" }) : null);
      return el("tr", {}, el("th", { scope: "row", text: name(row) }), el("td", {}, picture), el("td", { class: "number", text: show(row.value) }), tested.length ? el("td", { class: "number", text: Number.isFinite(row.p) ? `${show(row.p)}${row.p <= 0.05 ? " *" : ""}` : "–" }) : null);
    })));
  return el("div", {}, table, tested.length ? el("p", { class: "small", text: tested.some((row) => row.p <= 0.05) ? `* p ≤ 0.05: more than ${rows[0].null_wells ? "in control wells" : "chance"}` : `No channel stands out from ${rows[0].null_wells ? "control wells" : "chance"} (p ≤ 0.05).` }) : null);
}

/** Shares between 0 and 1 as bars: items {text, href, value, mark}. */
export function shareBars(items, head) {
  return el("table", { class: "bars" }, el("thead", {}, el("tr", {}, el("th", { scope: "col", text: head[0] }), el("th", { scope: "col", text: head[1] }), el("th", { scope: "col", class: "number", text: "value" }))),
    el("tbody", {}, items.map((item) => el("tr", { class: item.mark ? "mine" : null },
      el("th", { scope: "row" }, item.href ? link(item.href, item.text) : item.text, item.mark ? " ✓" : ""),
      el("td", {}, svg("svg", { viewBox: `0 0 ${WIDE} 12`, class: "bar", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { x: 0, y: 2, width: WIDE, height: 8, class: "rail" }), svg("rect", { x: 0, y: 2, width: Math.max(0, Math.min(1, item.value ?? 0)) * WIDE, height: 8, class: "share" }))),
      el("td", { class: "number", text: show(item.value) })))));
}
