// A site on a canvas: channels mixed, an overlay above, zoom and pan; several can move together.
import { el, show } from "./dom.js";
import { ask, json } from "./data.js";
import { dim, ramp } from "./color.js";
import { mix, plane } from "./planes.js";

const SMALL = 1 << 20; // pixels: an image up to this size is always read in full

/** What several images share: channels, zoom, overlay. `changed` listeners hear of each change. */
export class Look extends EventTarget {
  constructor() {
    super();
    this.channels = [];
    this.zoom = 1; // 1 = the whole image
    this.x = 0.5; // middle, as parts of width and height
    this.y = 0.5;
    this.overlay = { channel: "", opacity: 0.6, grey: true };
  }

  set(kind, changes) {
    Object.assign(this, changes);
    this.dispatchEvent(new CustomEvent("change", { detail: kind }));
  }

  clamp() {
    this.zoom = Math.max(1, Math.min(64, this.zoom));
    const half = 0.5 / this.zoom;
    this.x = Math.max(half, Math.min(1 - half, this.x));
    this.y = Math.max(half, Math.min(1 - half, this.y));
  }
}

function overlayImage({ values, width, height }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const value = Math.max(0, Math.min(1, values[i] || 0));
    const [r, g, b] = ramp(value);
    image.data.set([r, g, b, Math.round(255 * Math.min(1, value * 1.4))], 4 * i);
  }
  return image;
}

/** The mean of red, green and blue: weights of the eye would hide nuclei, which are blue. */
export function greyImage(image) {
  const grey = new ImageData(image.width, image.height);
  const from = image.data;
  const words = new Uint32Array(grey.data.buffer);
  for (let i = 0, k = 0; i < words.length; i++, k += 4) {
    const value = Math.round((from[k] + from[k + 1] + from[k + 2]) / 3);
    words[i] = 0xff000000 | (value << 16) | (value << 8) | value;
  }
  return grey;
}

function toCanvas(image) {
  const canvas = el("canvas", { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Fetch the map of an explanation, or null where there is none. */
export async function attributionMap(site, channel, base = "/api") {
  try {
    const response = await ask(`${base}/sites/${site}/attribution?channel=${channel}`);
    return { values: new Float32Array(await response.arrayBuffer()), width: Number(response.headers.get("X-Width")), height: Number(response.headers.get("X-Height")) };
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

/** One image; `title` says which well it shows. */
export class ImageView {
  constructor(look, { title, href = null, explained = false, base = "/api" } = {}) {
    this.look = look;
    this.base = base; // where the map of an explanation comes from
    this.explained = explained;
    this.canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": "microscopy image" });
    this.note = el("p", { class: "image-note", hidden: true });
    this.caption = el("figcaption", {}, href ? el("a", { href, text: title }) : el("span", { text: title }));
    this.readout = el("span", { class: "readout small" });
    this.node = el("figure", { class: "image" }, this.caption, el("div", { class: "frame" }, this.canvas, this.note, this.readout));
    this.canvas.imageView = this;
    this.turn = 0;
    this.listener = (event) => (event.detail === "channels" ? this.compose() : event.detail === "overlay" ? this.loadOverlay() : event.detail === "view" ? this.moved() : null);
    look.addEventListener("change", this.listener);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.node.querySelector(".frame"));
    this.listen();
  }

  dispose() {
    this.observer.disconnect();
    this.look.removeEventListener("change", this.listener);
  }

  fail(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  /** Show a site; contrast that is not set yet comes from it. */
  async open(site, title) {
    this.site = site;
    this.picture = null;
    this.overlay = null;
    this.canvas.setAttribute("aria-label", `${title}. Arrow keys move, plus and minus zoom, zero shows all.`);
    this.fail("");
    try {
      this.info = await json(`/api/sites/${site}/image`);
      this.look.fill?.(this.info);
      this.node.dataset.site = site;
      await Promise.all([this.compose(), this.loadOverlay()]);
    } catch (problem) {
      this.fail([problem.message, problem.next].filter(Boolean).join(" "));
      this.draw();
    }
  }

  /** The level that has at least one pixel for each pixel of the screen. */
  level() {
    const { width, height, n_levels: levels } = this.info;
    if (width * height <= SMALL || !this.canvas.width) return 0;
    const per = width / (this.canvas.width * this.look.zoom);
    return Math.max(0, Math.min(levels - 1, Math.floor(Math.log2(Math.max(1, per)))));
  }

  async compose() {
    if (!this.info) return;
    const mine = ++this.turn;
    const level = this.level();
    const active = this.look.channels.filter((channel) => channel.on);
    this.at = level;
    if (!active.length) {
      this.picture = null;
      this.draw();
      return;
    }
    const planes = await Promise.all(active.map((channel) => plane(this.site, channel.id, level)));
    if (mine !== this.turn) return;
    const colors = dim(active.map((channel) => channel.rgb));
    const image = await mix(active.map((channel, k) => ({ plane: planes[k], color: colors[k], low: channel.low, high: channel.high, gamma: channel.gamma })));
    if (mine !== this.turn) return;
    this.image = image;
    this.picture = toCanvas(image);
    this.grey = null;
    this.node.dataset.drawn = String(this.site);
    this.draw();
  }

  async loadOverlay() {
    const { channel } = this.look.overlay;
    if (!channel || !this.explained) {
      this.overlay = null;
      this.overlayOf = "";
      return this.draw();
    }
    const key = `${this.site}/${channel}`;
    if (this.overlayOf !== key) {
      this.overlayOf = key;
      const map = await attributionMap(this.site, channel, this.base);
      if (this.overlayOf !== key) return undefined;
      this.overlay = map ? toCanvas(overlayImage(map)) : null;
      const light = map?.values.some((value) => value > 0);
      this.look.note = !map ? "There is no map of this channel alone." : light ? "" : "This map is empty: no place of the image spoke for the decision.";
      this.look.dispatchEvent(new CustomEvent("change", { detail: "note" }));
    }
    return this.draw();
  }

  moved() {
    this.canvas.style.touchAction = this.look.zoom > 1 ? "none" : "pan-y"; // a whole image lets the page scroll
    if (this.info && this.level() !== this.at) this.compose();
    this.draw();
  }

  resize() {
    const frame = this.node.querySelector(".frame");
    const ratio = Math.min(2, devicePixelRatio || 1);
    const side = Math.round(frame.clientWidth);
    if (!side) return;
    const shape = this.info ? this.info.height / this.info.width : 1;
    this.canvas.width = Math.round(side * ratio);
    this.canvas.height = Math.round(side * shape * ratio);
    this.canvas.style.width = `${side}px`;
    this.canvas.style.height = `${Math.round(side * shape)}px`;
    this.moved();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (!this.info) return;
    if (Math.abs(height / width - this.info.height / this.info.width) > 0.01) {
      this.resize();
      return;
    }
    const { zoom, x, y } = this.look;
    const put = (picture) => context.drawImage(picture, (0.5 - x * zoom) * width, (0.5 - y * zoom) * height, width * zoom, height * zoom);
    const { opacity, grey } = this.look.overlay;
    if (this.picture) {
      context.imageSmoothingEnabled = (width * zoom) / this.picture.width < 3;
      const under = grey && this.overlay && opacity > 0;
      if (under) this.grey ??= toCanvas(greyImage(this.image));
      put(under ? this.grey : this.picture);
    }
    if (this.overlay && opacity > 0) {
      context.globalAlpha = opacity;
      context.imageSmoothingEnabled = true;
      put(this.overlay);
      context.globalAlpha = 1;
    }
    this.drawBar(context, width, height, zoom);
  }

  drawBar(context, width, height, zoom) {
    const size = this.info.pixel_size_um;
    if (!size) return;
    const perMicron = (width * zoom) / (this.info.width * size);
    const wanted = (width * 0.25) / perMicron;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const length = [5, 2, 1].map((step) => step * power).find((step) => step <= wanted) ?? power;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const [x1, y1] = [width - 12 * ratio, height - 12 * ratio];
    context.fillStyle = "#fff";
    context.strokeStyle = "#000";
    context.lineWidth = 3 * ratio;
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.textAlign = "right";
    context.strokeText(`${show(length)} µm`, x1, y1 - 7 * ratio);
    context.fillText(`${show(length)} µm`, x1, y1 - 7 * ratio);
    context.fillRect(x1 - length * perMicron, y1 - 3 * ratio, length * perMicron, 3 * ratio);
  }

  listen() {
    const { canvas, look } = this;
    const touches = new Map();
    let spread = 0;
    const spot = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const zoomAt = (factor, u, v) => {
      const before = look.zoom;
      const zoom = Math.max(1, Math.min(64, before * factor));
      look.x += (u - 0.5) * (1 / before - 1 / zoom);
      look.y += (v - 0.5) * (1 / before - 1 / zoom);
      look.zoom = zoom;
      look.clamp();
      look.set("view", {});
    };
    const pan = (du, dv) => {
      look.x -= du / look.zoom;
      look.y -= dv / look.zoom;
      look.clamp();
      look.set("view", {});
    };
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && look.zoom === 1 && event.deltaY > 0) return;
      event.preventDefault();
      zoomAt(Math.exp(-event.deltaY * 0.002), ...spot(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      touches.set(event.pointerId, spot(event));
      spread = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const [u, v] = spot(event);
      const before = touches.get(event.pointerId);
      this.read(u, v);
      if (!before) return;
      touches.set(event.pointerId, [u, v]);
      if (touches.size === 2) {
        const [a, b] = [...touches.values()];
        const apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (spread) {
          zoomAt(apart / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
          pan((u - before[0]) / 2, (v - before[1]) / 2); // the way of the middle between the fingers
        }
        spread = apart;
      } else if (look.zoom > 1) pan(u - before[0], v - before[1]);
    });
    const end = (event) => touches.delete(event.pointerId);
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => { this.readout.textContent = ""; });
    canvas.addEventListener("dblclick", (event) => zoomAt(2, ...spot(event)));
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [0, 0.1], ArrowDown: [0, -0.1], ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0] }[event.key];
      if (move) pan(...move);
      else if (event.key === "+" || event.key === "=") zoomAt(1.5, 0.5, 0.5);
      else if (event.key === "-") zoomAt(1 / 1.5, 0.5, 0.5);
      else if (event.key === "0") look.set("view", { zoom: 1, x: 0.5, y: 0.5 });
      else return;
      event.preventDefault();
    });
  }

  /** Say the place under the pointer. */
  read(u, v) {
    if (!this.info) return;
    const { zoom, x, y } = this.look;
    const px = Math.floor((x + (u - 0.5) / zoom) * this.info.width);
    const py = Math.floor((y + (v - 0.5) / zoom) * this.info.height);
    this.readout.textContent = `x ${px}, y ${py}`;
  }
}
