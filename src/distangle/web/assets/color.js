// Colors a color-blind reader can tell apart, and the legends that explain them.
import { isYesNo } from "./data.js";
import { el, show, svg } from "./dom.js";

// Okabe and Ito (2008), in an order that keeps neighbors apart.
export const CLASSES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a900"];
export const OTHER = "#8b9198";
// Anchor points of viridis: even in lightness, from dark (low) to bright (high).
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];

/** Red, green, blue (0-255) of a #rrggbb color. */
export function rgb(hex) {
  const number = parseInt(hex.slice(1, 7), 16);
  return [(number >> 16) & 255, (number >> 8) & 255, number & 255];
}

/** #rrggbb of red, green, blue. */
export function hex(r, g, b) {
  return `#${((1 << 24) | (r << 16) | (g << 8) | b).toString(16).slice(1)}`;
}

const RAMP = (() => {
  const anchors = VIRIDIS.map(rgb);
  const ramp = [];
  for (let i = 0; i < 256; i++) {
    const t = (i / 255) * (anchors.length - 1);
    const k = Math.min(anchors.length - 2, Math.floor(t));
    ramp.push(anchors[k].map((value, c) => Math.round(value + (anchors[k + 1][c] - value) * (t - k))));
  }
  return ramp;
})();
const RAMP_HEX = RAMP.map(([r, g, b]) => hex(r, g, b));

/** Viridis at t in 0..1, as [r, g, b]. */
export function ramp(t) {
  return RAMP[Math.max(0, Math.min(255, Math.round(t * 255)))];
}

function quantile(values, q) {
  const step = Math.max(1, Math.floor(values.length / 20000)); // a sample is enough for the ends of a legend
  const finite = new Float64Array(Math.ceil(values.length / step)).map((_, i) => values[i * step]).filter((value) => !Number.isNaN(value)).sort();
  return finite.length ? finite[Math.min(finite.length - 1, Math.floor(q * finite.length))] : NaN;
}

/**
 * The colors of a column: `of(row)` gives #rrggbb or null without a value, and `entries` or `range` the legend.
 * The seven most frequent texts have a color of their own, all others are grey; numbers span their 1-99 % range.
 */
export function scale(column) {
  if (column.kind === "number" && isYesNo(column.name)) {
    const [yes, no] = [1, 0].map((wanted) => column.values.reduce((sum, value) => sum + (value === wanted), 0));
    return {
      kind: "text",
      entries: [{ color: CLASSES[0], text: "yes", count: yes }, { color: CLASSES[1], text: "no", count: no }],
      of: (row) => (Number.isNaN(column.values[row]) ? null : column.values[row] ? CLASSES[0] : CLASSES[1]),
    };
  }
  if (column.kind === "number") {
    let [low, high] = column.range();
    const few = new Set();
    for (const value of column.values) {
      if (!Number.isNaN(value)) few.add(value);
      if (few.size > 8) break;
    }
    if (few.size > 8) [low, high] = [quantile(column.values, 0.01), quantile(column.values, 0.99)];
    const span = high > low ? high - low : 1;
    return {
      kind: "number",
      low,
      high,
      of: (row) => {
        const value = column.values[row];
        if (Number.isNaN(value)) return null;
        return RAMP_HEX[Math.max(0, Math.min(255, Math.round(((value - low) / span) * 255)))];
      },
    };
  }
  const counts = column.counts();
  const order = [...counts.keys()].filter((code) => counts[code] > 0);
  order.sort((a, b) => counts[b] - counts[a] || a - b);
  const top = order.slice(0, CLASSES.length).sort((a, b) => order.length > CLASSES.length ? 0 : a - b);
  const colors = new Array(column.levels.length).fill(OTHER);
  top.forEach((code, i) => { colors[code] = CLASSES[i]; });
  const rest = order.slice(CLASSES.length);
  return {
    kind: "text",
    entries: [
      ...top.map((code) => ({ color: colors[code], text: column.levels[code], count: counts[code] })),
      ...(rest.length ? [{ color: OTHER, text: `${rest.length} others`, count: rest.reduce((sum, code) => sum + counts[code], 0) }] : []),
    ],
    of: (row) => (column.codes[row] < 0 ? null : colors[column.codes[row]]),
  };
}

/**
 * Dim colors that together would add up to white: k = min(1, 1.8 / largest sum of a component), rounded to 8 bits.
 * colors: [r, g, b] (0-255) of the channels that are on.
 */
export function dim(colors) {
  const sums = [0, 1, 2].map((c) => colors.reduce((sum, color) => sum + color[c] / 255, 0));
  const k = Math.min(1, 1.8 / Math.max(...sums, 1e-9));
  return colors.map((color) => color.map((part) => Math.round(k * part)));
}

/** A horizontal color bar from low to high. */
export function rampBar(low, high, title) {
  const bar = svg("svg", { class: "ramp", viewBox: "0 0 64 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let i = 0; i < 64; i++) {
    bar.append(svg("rect", { x: i, y: 0, width: 1.1, height: 6, fill: RAMP_HEX[Math.round((i / 63) * 255)] }));
  }
  return el("div", { class: "legend" },
    title ? el("strong", { text: title }) : null,
    el("span", { text: low }), bar, el("span", { text: high }));
}

/** A small square of color. */
export function swatch(color) {
  return svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, fill: color }));
}

/** The legend of a scale. */
export function legend(colors, title, plain = (text) => text) {
  if (colors.kind === "number") return rampBar(show(colors.low), show(colors.high), title);
  return el("div", { class: "legend" }, el("strong", { text: title }),
    colors.entries.map((entry) => el("span", { class: "entry" }, swatch(entry.color), `${plain(entry.text)} (${entry.count.toLocaleString("en")})`)));
}

/** A color of the theme in force. */
export function theme(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
