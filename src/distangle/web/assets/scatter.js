// Draw and search a cloud of points; plain pixels, so that it is fast where there is no graphics card too.
import { hex, rgb, theme } from "./color.js";

const CELLS = 128;
const FEW = 3000; // points up to here are discs with an outline

function pack([r, g, b]) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

/** Pixels of a disc: whole ones, and those at the edge that are mixed half and half. */
function disc(radius) {
  if (radius < 1.3) return { whole: [[0, 0], [1, 0], [0, 1], [1, 1]], half: [] };
  const whole = [];
  const half = [];
  const top = Math.ceil(radius);
  for (let y = -top; y <= top; y++) {
    for (let x = -top; x <= top; x++) {
      const distance = Math.hypot(x, y);
      if (distance <= radius - 0.35) whole.push([x, y]);
      else if (distance <= radius + 0.4) half.push([x, y]);
    }
  }
  return { whole, half };
}

/** Buckets of points on a grid: which points are near a place, without looking at all of them. */
class Grid {
  constructor(xy, box) {
    this.box = box;
    const n = xy.length / 2;
    const cellOf = new Uint32Array(n);
    this.start = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < n; i++) {
      cellOf[i] = this.cell(xy[2 * i], xy[2 * i + 1]);
      this.start[cellOf[i] + 1]++;
    }
    for (let c = 0; c < CELLS * CELLS; c++) this.start[c + 1] += this.start[c];
    const next = this.start.slice();
    this.rows = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.rows[next[cellOf[i]]++] = i;
  }

  axis(value, low, high) {
    return Math.max(0, Math.min(CELLS - 1, Math.floor(((value - low) / (high - low || 1)) * CELLS)));
  }

  cell(x, y) {
    const { left, right, low, high } = this.box;
    return this.axis(y, low, high) * CELLS + this.axis(x, left, right);
  }

  * near(x, y, radius) {
    const { left, right, low, high } = this.box;
    const [c0, c1] = [this.axis(x - radius, left, right), this.axis(x + radius, left, right)];
    const [r0, r1] = [this.axis(y - radius, low, high), this.axis(y + radius, low, high)];
    for (let r = r0; r <= r1; r++) {
      for (let c = c0; c <= c1; c++) {
        const cell = r * CELLS + c;
        for (let k = this.start[cell]; k < this.start[cell + 1]; k++) yield this.rows[k];
      }
    }
  }
}

/** A scatter plot on a canvas. Positions are in the units of the map; y points up. */
export class Scatter {
  constructor(canvas, xy) {
    this.canvas = canvas;
    this.xy = xy;
    this.n = xy.length / 2;
    this.context = canvas.getContext("2d", { alpha: false });
    this.colors = new Uint32Array(this.n);
    this.shown = new Uint8Array(this.n).fill(1); // 1 in the filter, 0 outside: faint
    this.rings = []; // rows with a ring around
    this.polygon = null;
    this.box = this.extent();
    this.grid = new Grid(xy, this.box);
    this.order = this.shuffle();
    this.places = new Float32Array(xy.length); // in the order of drawing
    for (let k = 0; k < this.n; k++) {
      this.places[2 * k] = xy[2 * this.order[k]];
      this.places[2 * k + 1] = xy[2 * this.order[k] + 1];
    }
    this.view = null;
    this.pending = 0;
  }

  extent() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.n; i++) {
      const [x, y] = [this.xy[2 * i], this.xy[2 * i + 1]];
      if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < low) low = y;
      if (y > high) high = y;
    }
    return left <= right ? { left, right, low, high } : { left: 0, right: 1, low: 0, high: 1 };
  }

  // A fixed shuffle: no group lies on top because of its place in the table.
  shuffle() {
    const order = Uint32Array.from({ length: this.n }, (_, i) => i);
    let seed = 12345;
    for (let i = this.n - 1; i > 0; i--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const j = seed % (i + 1);
      const other = order[i];
      order[i] = order[j];
      order[j] = other;
    }
    return order;
  }

  /** Give every point a #rrggbb color; null is the color of no value. */
  paint(colorOf) {
    const known = new Map();
    const empty = theme("none");
    for (let i = 0; i < this.n; i++) {
      const color = colorOf(i) ?? empty;
      let value = known.get(color);
      if (value === undefined) known.set(color, (value = pack(rgb(color))));
      this.colors[i] = value;
    }
    this.background = pack(rgb(theme("stage")));
    this.faint = pack(rgb(theme("faint")));
    this.request();
  }

  /** Fit the canvas to its place on the page. */
  resize() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (!wide || !high) return;
    this.ratio = ratio;
    this.canvas.width = Math.round(wide * ratio);
    this.canvas.height = Math.round(high * ratio);
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    if (!this.view) this.home();
    this.request();
  }

  /** Show all points. */
  home() {
    const { left, right, low, high } = this.box;
    const { clientWidth: wide, clientHeight: tall } = this.canvas;
    const scale = 0.92 * Math.min(wide / (right - left || 1), tall / (high - low || 1));
    this.view = { x: (left + right) / 2, y: (low + high) / 2, scale };
    this.whole = scale;
    this.request();
  }

  /** CSS pixels of the canvas to units of the map. */
  toMap(px, py) {
    const { x, y, scale } = this.view;
    return [x + (px - this.canvas.clientWidth / 2) / scale, y - (py - this.canvas.clientHeight / 2) / scale];
  }

  /** Units of the map to CSS pixels of the canvas. */
  toPage(mx, my) {
    const { x, y, scale } = this.view;
    return [(mx - x) * scale + this.canvas.clientWidth / 2, (y - my) * scale + this.canvas.clientHeight / 2];
  }

  pan(dx, dy) {
    this.view.x -= dx / this.view.scale;
    this.view.y += dy / this.view.scale;
    this.request();
  }

  zoom(factor, px, py) {
    const [mx, my] = this.toMap(px, py);
    const scale = Math.max(this.whole * 0.3, Math.min(this.whole * 2000, this.view.scale * factor));
    const k = this.view.scale / scale;
    this.view = { x: mx + (this.view.x - mx) * k, y: my + (this.view.y - my) * k, scale };
    this.request();
  }

  /** The nearest point in the filter within some CSS pixels, or -1. */
  pick(px, py, reach = 12) {
    const [mx, my] = this.toMap(px, py);
    const radius = reach / this.view.scale;
    let best = -1;
    let closest = radius * radius;
    for (const i of this.grid.near(mx, my, radius)) {
      if (!this.shown[i]) continue;
      const distance = (this.xy[2 * i] - mx) ** 2 + (this.xy[2 * i + 1] - my) ** 2;
      if (distance <= closest) [best, closest] = [i, distance];
    }
    return best;
  }

  request() {
    if (!this.pending) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.draw();
      });
    }
  }

  /** Radius of a point in device pixels: small in a crowd, larger when near. */
  radius() {
    const crowd = Math.sqrt((this.canvas.clientWidth * this.canvas.clientHeight) / Math.max(1, this.n));
    const near = Math.sqrt(this.view.scale / this.whole);
    return Math.max(1, Math.min(6, crowd * 0.22 * near)) * this.ratio;
  }

  draw() {
    if (!this.pixels || !this.view) return;
    const { width, height } = this.canvas;
    this.pixels.fill(this.background);
    const radius = this.radius();
    if (this.n > FEW) {
      if (this.shown.includes(0)) this.splat(Math.max(1, radius * 0.7), 0);
      this.splat(radius, 1);
    }
    this.context.putImageData(this.image, 0, 0);
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (this.n <= FEW) this.drawDiscs(radius / this.ratio);
    this.drawRings(radius / this.ratio);
    this.drawLine();
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.frames = (this.frames ?? 0) + 1;
    this.last = { width, height };
  }

  splat(radius, wanted) {
    const { width, height } = this.canvas;
    const { pixels, places, colors, shown, order, faint } = this;
    const scale = this.view.scale * this.ratio;
    const [cx, cy] = [width / 2 - this.view.x * scale, height / 2 + this.view.y * scale];
    const { whole, half } = disc(radius);
    const edge = Math.ceil(radius) + 1;
    const solid = Int32Array.from(whole, ([x, y]) => y * width + x);
    const mixed = Int32Array.from(half, ([x, y]) => y * width + x);
    for (let k = 0; k < order.length; k++) {
      const i = order[k];
      if (shown[i] !== wanted) continue;
      const x = Math.round(cx + places[2 * k] * scale);
      const y = Math.round(cy - places[2 * k + 1] * scale);
      if (!(x >= edge && y >= edge && x < width - edge && y < height - edge)) continue;
      const at = y * width + x;
      const color = wanted ? colors[i] : faint;
      for (let m = 0; m < solid.length; m++) pixels[at + solid[m]] = color;
      const part = (color >>> 1) & 0x7f7f7f7f;
      for (let m = 0; m < mixed.length; m++) {
        const p = at + mixed[m];
        pixels[p] = (part + ((pixels[p] >>> 1) & 0x7f7f7f7f)) | 0xff000000;
      }
    }
  }

  drawDiscs(radius) {
    const { context } = this;
    context.lineWidth = 0.8;
    context.strokeStyle = theme("ink");
    for (const wanted of [0, 1]) {
      for (const i of this.order) {
        if (this.shown[i] !== wanted) continue;
        const [x, y] = this.toPage(this.xy[2 * i], this.xy[2 * i + 1]);
        const color = wanted ? this.colors[i] : this.faint;
        context.fillStyle = hex(color & 255, (color >>> 8) & 255, (color >>> 16) & 255);
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
        if (wanted) context.stroke();
      }
    }
  }

  drawRings(radius) {
    const { context } = this;
    for (const i of this.rings) {
      const [x, y] = this.toPage(this.xy[2 * i], this.xy[2 * i + 1]);
      for (const [width, color] of [[4, theme("panel")], [2, theme("ink")]]) {
        context.lineWidth = width;
        context.strokeStyle = color;
        context.beginPath();
        context.arc(x, y, radius + 3, 0, 7);
        context.stroke();
      }
    }
  }

  drawLine() {
    if (!this.polygon?.length) return;
    const { context } = this;
    context.beginPath();
    this.polygon.forEach(([mx, my], k) => context[k ? "lineTo" : "moveTo"](...this.toPage(mx, my)));
    context.closePath();
    context.globalAlpha = 0.12;
    context.fillStyle = theme("accent");
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = theme("accent");
    context.lineWidth = 2;
    context.stroke();
  }
}
