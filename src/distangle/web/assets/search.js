// One search box for wells, plates, perturbations and genes.
import { el } from "./dom.js";
import { label, perturbations, plates, summary, wells } from "./data.js";
import { go } from "./route.js";

const LIMIT = 12;

/** Find what a text names: perturbations first, then plates, then wells. */
export async function find(text) {
  const words = text.toLowerCase().split(/[\s,/·]+/).filter(Boolean);
  if (!words.length) return [];
  const [facts, board, table, effects] = await Promise.all([summary(), plates(), wells(), perturbations()]);
  const fits = (value) => words.every((word) => value.toLowerCase().includes(word));
  const found = [];
  const names = effects.get("perturbation");
  const notes = effects.names.filter((name) => name !== "perturbation" && effects.get(name).kind === "text");
  for (let row = 0; row < effects.n && found.length < LIMIT; row++) {
    const note = notes.find((name) => effects.at(name, row) && fits(effects.at(name, row)));
    if (fits(names.at(row) ?? "")) found.push({ text: names.at(row), kind: "perturbation", address: `/perturbation/${row}` });
    else if (note) found.push({ text: `${names.at(row)} · ${label(note, facts.columns)}: ${effects.at(note, row)}`, kind: "perturbation", address: `/perturbation/${row}` });
  }
  for (const plate of board) {
    if (found.length >= LIMIT + 4) break;
    if (fits(`${plate.experiment} ${plate.name}`)) {
      found.push({ text: `${plate.experiment} · plate ${plate.name}`, kind: "plate", address: `/plates?experiment=${encodeURIComponent(plate.experiment)}` });
    }
  }
  const titles = new Map(board.map((plate) => [plate.id, `${plate.experiment} · plate ${plate.name}`]));
  const well = words.find((word) => /^[a-z]{1,2}\d{1,2}$/.test(word));
  if (well) {
    const rest = words.filter((word) => word !== well);
    for (let row = 0; row < table.n && found.length < 2 * LIMIT; row++) {
      const name = (table.at("name", row) ?? "").toLowerCase();
      if (name !== well && name.replace(/^([a-z]+)0+/, "$1") !== well) continue;
      const title = titles.get(table.at("plate", row)) ?? "";
      if (!rest.every((word) => title.toLowerCase().includes(word))) continue;
      found.push({ text: `${title} · ${table.at("name", row)}`, kind: "well", address: `/well/${row}` });
    }
  }
  return found;
}

/** A box with suggestions below: arrows choose, Enter opens. */
export function searchBox() {
  const list = el("ul", { id: "suggestions", role: "listbox", class: "suggestions", "aria-label": "Matches", hidden: true });
  const box = el("input", {
    type: "search", placeholder: "Find well, plate, siRNA …", "aria-label": "Find a well, plate, perturbation or gene",
    role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list", autocomplete: "off",
  });
  let matches = [];
  let current = -1;
  let turn = 0;
  const close = () => {
    list.hidden = true;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
    current = -1;
  };
  const open = (match) => {
    close();
    box.value = "";
    go(match.address);
  };
  const mark = (index) => {
    current = index;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === index)));
    if (index >= 0) {
      box.setAttribute("aria-activedescendant", `match-${index}`);
      list.children[index].scrollIntoView({ block: "nearest" });
    }
  };
  const update = async () => {
    const mine = ++turn;
    const found = await find(box.value).catch(() => []);
    if (mine !== turn) return;
    matches = found;
    list.replaceChildren(...(matches.length ? matches.map((match, i) => el("li", {
      role: "option", id: `match-${i}`, "aria-selected": "false", on: { mousedown: (event) => { event.preventDefault(); open(match); } },
    }, el("span", { class: "kind", text: match.kind }), match.text)) : box.value.trim() ? [el("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", text: "Nothing found" })] : []));
    list.hidden = !list.children.length;
    box.setAttribute("aria-expanded", String(!list.hidden));
    current = -1;
  };
  box.addEventListener("input", update);
  box.addEventListener("blur", close);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { box.value = ""; close(); }
    if (event.key === "ArrowDown" && matches.length) { event.preventDefault(); mark((current + 1) % matches.length); }
    if (event.key === "ArrowUp" && matches.length) { event.preventDefault(); mark((current - 1 + matches.length) % matches.length); }
    if (event.key === "Enter" && matches.length) open(matches[Math.max(0, current)]);
  });
  return el("div", { class: "search", role: "search" }, box, list);
}
