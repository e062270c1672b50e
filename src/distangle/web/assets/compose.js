// Mix channels to colors, by the same formula as the server:
// out = clip(sum over channels of color * clip((value - low) / (high - low), 0, 1) ** gamma, 0, 1), rounded to 8 bits.

/** A value between 0 and 1 for each possible pixel value, times 255. */
function curve(low, high, gamma, size) {
  const table = new Float32Array(size);
  const span = high - low;
  for (let value = 0; value < size; value++) {
    const t = span > 0 ? Math.min(1, Math.max(0, (value - low) / span)) : value >= high ? 1 : 0;
    table[value] = 255 * t ** gamma;
  }
  return table;
}

/**
 * Compose planes to RGBA.
 * layers: [{pixels: Uint8Array|Uint16Array, color: [r, g, b] (0-255), low, high, gamma}]; n: number of pixels.
 */
export function compose(layers, n) {
  const rgba = new Uint8ClampedArray(4 * n);
  const words = new Uint32Array(rgba.buffer);
  const red = new Float32Array(n);
  const green = new Float32Array(n);
  const blue = new Float32Array(n);
  for (const { pixels, color, low, high, gamma } of layers) {
    const table = curve(low, high, gamma, pixels.BYTES_PER_ELEMENT === 1 ? 256 : 65536);
    const [r, g, b] = color.map((part) => part / 255);
    for (let i = 0; i < n; i++) {
      const light = table[pixels[i]];
      if (light === 0) continue;
      red[i] += r * light;
      green[i] += g * light;
      blue[i] += b * light;
    }
  }
  for (let i = 0; i < n; i++) {
    const r = red[i] >= 255 ? 255 : (red[i] + 0.5) | 0;
    const g = green[i] >= 255 ? 255 : (green[i] + 0.5) | 0;
    const b = blue[i] >= 255 ? 255 : (blue[i] + 0.5) | 0;
    words[i] = 0xff000000 | (b << 16) | (g << 8) | r;
  }
  return rgba;
}
