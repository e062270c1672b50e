// Small pictures of sites with what they show, a page at a time.
import { csv, el, save } from "./dom.js";

const PAGE = 60;
let pictures = true;

/** Say whether the folder has images at all; without, a gallery is a list of names. */
export function setPictures(on) {
  pictures = on;
}

/** Put words in the place of a picture that cannot be read. */
function blank(event) {
  event.target.replaceWith(el("span", { class: "blank", text: "no image" }));
}

/** A picture of a site with its label; it opens the well. */
export function thumbnail(site, well, title, note) {
  return el("a", { class: "thumb", href: `/well/${well}?site=${site}`, title: [title, note].filter(Boolean).join("\n") },
    !pictures ? null : site >= 0 ? el("img", { src: `/api/sites/${site}/thumbnail.png`, alt: "", width: 96, height: 96, loading: "lazy", on: { error: blank } }) : el("span", { class: "blank", text: "no image" }),
    el("span", { class: "name", text: title }), note ? el("span", { class: "small", text: note }) : null);
}

/** A gallery: `items` are {site, well, title, note}. */
export function gallery(items, page = PAGE) {
  const grid = el("div", { class: "gallery" });
  const more = el("button", { type: "button", text: "Show more" });
  let shown = 0;
  const add = () => {
    grid.append(...items.slice(shown, shown + page).map((item) => thumbnail(item.site, item.well, item.title, item.note)));
    shown = Math.min(items.length, shown + page);
    more.hidden = shown >= items.length;
    more.textContent = `Show more (${items.length - shown})`;
  };
  more.addEventListener("click", add);
  add();
  return el("div", {}, grid, more);
}

/** A button that saves rows as a CSV file. */
export function csvButton(name, header, rowsOf, text = "Download CSV") {
  return el("button", { type: "button", text, on: { click: () => save(name, csv(header, rowsOf())) } });
}

