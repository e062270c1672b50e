// Mix channels away from the page, so that sliders stay smooth with large images.
import { compose } from "./compose.js";

const planes = new Map();

self.onmessage = ({ data }) => {
  if (data.add) {
    const { key, pixels } = data.add;
    planes.set(key, pixels);
    if (planes.size > 64) planes.delete(planes.keys().next().value);
    return;
  }
  const { job, layers, n } = data;
  const missing = layers.filter((layer) => !planes.has(layer.key)).map((layer) => layer.key);
  if (missing.length) {
    self.postMessage({ job, missing });
    return;
  }
  const rgba = compose(layers.map((layer) => ({ ...layer, pixels: planes.get(layer.key) })), n);
  self.postMessage({ job, rgba }, [rgba.buffer]);
};
