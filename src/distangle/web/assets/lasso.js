// A free-hand line around points: which are inside, and the line as text for the address.

const CORNERS = 80;

/** Rows of the points inside a polygon, both in the units of the map. */
export function inside(xy, polygon) {
  const xs = polygon.map((corner) => corner[0]);
  const ys = polygon.map((corner) => corner[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const rows = [];
  const n = polygon.length;
  for (let i = 0; i < xy.length / 2; i++) {
    const [x, y] = [xy[2 * i], xy[2 * i + 1]];
    if (!(x >= left && x <= right && y >= low && y <= high)) continue;
    let odd = false;
    for (let a = 0, b = n - 1; a < n; b = a++) {
      if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) odd = !odd;
    }
    if (odd) rows.push(i);
  }
  return rows;
}

/** Keep at most 80 corners of a line. */
export function thin(line) {
  if (line.length <= CORNERS) return line;
  return Array.from({ length: CORNERS }, (_, i) => line[Math.floor((i * line.length) / CORNERS)]);
}

/** A polygon as text: x,y~x,y~… */
export function writePolygon(polygon) {
  return polygon.map(([x, y]) => `${Number(x.toPrecision(5))},${Number(y.toPrecision(5))}`).join("~");
}

/** The polygon of a text, null without one. */
export function readPolygon(text) {
  if (!text) return null;
  const polygon = text.split("~").map((corner) => corner.split(",").map(Number));
  return polygon.length >= 3 && polygon.every((corner) => corner.length === 2 && corner.every(Number.isFinite)) ? polygon : null;
}
