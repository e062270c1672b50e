// Build elements; text only ever enters the page as text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "text") {
      node.textContent = value;
    } else if (name === "value" && "value" in node) {
      node.value = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Make an HTML element; strings among the children become text. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Make a link inside the application. */
export function link(href, text, attributes) {
  return el("a", { href, ...attributes }, text);
}

let hush = 0;

/** Tell a screen reader something that changed. */
export function announce(text) {
  clearTimeout(hush);
  hush = setTimeout(() => {
    document.getElementById("announce").textContent = text;
  }, 120);
}

/** Call a function once things have been quiet for some milliseconds. */
export function debounce(action, wait) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), wait);
  };
}

/** Make a select box: options are [value, label] pairs. */
export function choice(label, options, current, onChange) {
  const box = el("select", { on: { change: () => onChange(box.value) } },
    options.map(([value, text]) => el("option", { value, text, selected: value === current })));
  return el("label", { class: "field" }, el("span", { text: label }), box);
}

/** Show a number in few characters. */
export function show(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e6 ? String(value) : value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(size < 1 ? 2 : 3)));
}

/** Save text as a file on the reader's computer. */
export function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Write rows of values as CSV; a formula in a cell stays text. */
export function csv(header, rows) {
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** A box that says what is wrong and what to do next. */
export function notice(text, next) {
  return el("div", { class: "notice", role: "alert" }, el("p", { text }), next ? el("p", { class: "next", text: next }) : null);
}
