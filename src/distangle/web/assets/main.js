// The frame of the application: menu, search, theme, and which view is drawn.
import { announce, el, link, notice } from "./dom.js";
import { plates, summary } from "./data.js";
import { followLinks, onRoute } from "./route.js";
import { setPictures } from "./gallery.js";
import { searchBox } from "./search.js";

const VIEWS = [
  { path: "plates", text: "Plates", module: "./plates_view.js", shown: () => true },
  { path: "map", text: "Map", module: "./map_view.js", shown: (s) => s.has_map },
  { path: "hits", text: "Hit list", other: "Perturbations", module: "./table_views.js", shown: (s) => s.has_hits || s.n_perturbations > 0 },
  { path: "scores", text: "Scores", module: "./table_views.js", shown: (s) => s.has_scores },
  { path: "checks", text: "Checks", module: "./table_views.js", shown: (s) => s.has_checks },
  { path: "compare", text: "Compare", module: "./compare_view.js", shown: (s) => s.n_wells > 0 },
  { path: "training", text: "Training", module: "./training_view.js", shown: (s) => s.has_training },
  { path: "well", text: "Well", module: "./well_view.js", shown: () => false },
  { path: "perturbation", text: "Perturbation", module: "./perturbation_view.js", shown: () => false },
];
const view = document.getElementById("view");
let dispose = null;
let turn = 0;

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  document.dispatchEvent(new CustomEvent("theme"));
}

function themeButton() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let stored = null;
  try { stored = localStorage.getItem("theme"); } catch { /* a browser may refuse storage */ }
  setTheme(stored ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  const button = el("button", { class: "quiet theme", type: "button", "aria-label": "Switch light and dark", title: "Switch light and dark", text: "◐" });
  button.addEventListener("click", () => {
    const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", name); } catch { /* as above */ }
    setTheme(name);
  });
  return button;
}

function buildBar(facts) {
  const menu = el("nav", { "aria-label": "Views" },
    VIEWS.filter((item) => item.shown(facts)).map((item) => link(`/${item.path}`, item.other && !facts.has_hits ? item.other : item.text, { "data-view": item.path })));
  const state = facts.state === "training" ? el("span", { class: "tag", text: "still training" }) : null;
  document.getElementById("bar").replaceChildren(
    el("div", { class: "brand" }, link("/plates", facts.title || "distangle", { class: "title" }), state),
    menu, searchBox(), themeButton());
  if (facts.problems?.length) {
    document.getElementById("bar").after(el("details", { class: "problems" },
      el("summary", { text: `${facts.problems.length} ${facts.problems.length === 1 ? "thing is" : "things are"} missing or altered in this folder` }),
      el("ul", {}, facts.problems.map((problem) => el("li", {}, problem.text, " ", el("span", { class: "next", text: problem.next_step ?? "" }))))));
  }
}

async function drawPage() {
  const mine = ++turn;
  const [, first, second] = location.pathname.split("/");
  const name = first || "plates";
  const item = VIEWS.find((entry) => entry.path === name);
  for (const anchor of document.querySelectorAll("#bar nav a")) {
    if (anchor.dataset.view === name) {
      anchor.setAttribute("aria-current", "page");
      const menu = anchor.parentElement; // on a phone it scrolls
      menu.scrollLeft += anchor.getBoundingClientRect().left - menu.getBoundingClientRect().left - 40;
    } else anchor.removeAttribute("aria-current");
  }
  dispose?.();
  dispose = null;
  const place = el("div", { class: `view ${name}` });
  view.replaceChildren(el("p", { class: "wait", text: "Loading …" }));
  try {
    if (!item) throw new Error(`There is no view “${name}”.`);
    const [facts, { render }] = await Promise.all([summary(), import(item.module)]);
    if (mine !== turn) return;
    view.replaceChildren(place);
    const end = await render(place, { facts, name, id: second === undefined ? null : Number(second) });
    if (mine !== turn) end?.();
    else dispose = end ?? null;
    const heading = place.querySelector("h1")?.textContent ?? item.text;
    document.title = `${heading} · ${facts.title || "distangle"}`;
    announce(heading);
  } catch (problem) {
    if (mine !== turn) return;
    view.replaceChildren(notice(problem.message, problem.next ?? "Choose a view in the menu."));
  }
  if (mine === turn) document.documentElement.dataset.ready = location.pathname;
}

async function start() {
  plates().catch(() => {}); // nearly every view needs them: ask at once; the view says what is wrong
  followLinks();
  onRoute(() => {
    delete document.documentElement.dataset.ready;
    scrollTo(0, 0);
    drawPage();
  });
  try {
    const facts = await summary();
    setPictures(facts.has_images);
    buildBar(facts);
  } catch (problem) {
    view.replaceChildren(notice(problem.message, problem.next));
    return;
  }
  await drawPage();
}

start();
