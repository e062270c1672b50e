// Faults of the page for people who cannot see it well: controls without a name, pictures without a text,
// text with too little contrast, two elements with one id, and content wider than the screen.
() => {
  const faults = [];
  const shown = (node) => node.getClientRects().length > 0 && getComputedStyle(node).visibility !== "hidden";
  const text = (node) => (node?.textContent ?? "").trim();
  const byId = (ids) => ids.split(/\s+/).map((id) => text(document.getElementById(id))).join(" ");
  const name = (node) => node.getAttribute("aria-label") || (node.hasAttribute("aria-labelledby") && byId(node.getAttribute("aria-labelledby")))
    || [...(node.labels ?? [])].map(text).join(" ") || (node.tagName === "INPUT" || node.tagName === "SELECT" ? "" : text(node))
    || [...node.querySelectorAll("img")].map((image) => image.alt).join(" ");
  const say = (fault, node) => faults.push(`${fault}: ${node.outerHTML.slice(0, 120)}`);

  for (const node of document.querySelectorAll("a[href], button, input, select, summary, [role=application], [tabindex='0']")) {
    if (shown(node) && !name(node)) say("no name", node);
  }
  for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) say("no alt", image);
  for (const picture of document.querySelectorAll("svg")) {
    if (picture.getAttribute("aria-hidden") !== "true" && !(picture.getAttribute("role") === "img" && picture.getAttribute("aria-label"))) say("no text", picture);
  }
  for (const header of document.querySelectorAll("th")) if (!text(header)) say("empty header", header);
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size !== ids.length) faults.push("an id occurs twice");
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(shown).map((node) => Number(node.tagName[1]));
  levels.forEach((level, k) => { if (k && level > levels[k - 1] + 1) faults.push(`heading ${level} after ${levels[k - 1]}`); });
  if (!document.documentElement.lang) faults.push("no language");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`${wide} px wider than the screen`);

  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (let place = node; place; place = place.parentElement) {
      const color = parse(getComputedStyle(place).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !shown(node) || node.closest("svg, .frame, .hidden, option, :disabled, noscript, .thumb .blank")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parse(style.color)), light(behind(node))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) say(`contrast ${ratio.toFixed(1)}`, node);
  }
  return faults;
}
