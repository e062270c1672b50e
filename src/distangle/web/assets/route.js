// The address of the page holds the whole state of a view, so that it can be mailed.

let draw = () => {};

/** Say which function draws the page; called once. */
export function onRoute(action) {
  draw = action;
  window.addEventListener("popstate", () => draw());
}

/** The parameters after the question mark. */
export function params() {
  return new URLSearchParams(location.search);
}

function write(query) {
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%7E", "~");
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}

/** Change parameters of the address without drawing the page again; null or "" removes one. */
export function keep(changes) {
  const query = params();
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    if (Array.isArray(value)) value.forEach((item) => query.append(name, item));
    else if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  write(query);
}

/** Go to another page of the application. */
export function go(address) {
  history.pushState(null, "", address);
  draw();
}

/** Follow links inside the application without loading the page anew. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const anchor = event.target.closest?.("a[href]");
    if (!anchor || anchor.hasAttribute("download") || anchor.target) return;
    const href = anchor.getAttribute("href");
    if (!href.startsWith("/") || href.startsWith("/api/") || href.startsWith("//")) return;
    event.preventDefault();
    go(href);
  });
}
