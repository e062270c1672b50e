// Fetch raw channels and have them mixed by the worker.
import { ask } from "./data.js";

const KEEP = 48;
const planes = new Map(); // key -> promise of {pixels, width, height}
const sent = new Set();
const jobs = new Map();
let worker = null;
let counter = 0;

/** Fetch one channel of a site at a level; level L has a 2^L times shorter side. */
export function plane(site, channel, level) {
  const key = `${site}/${channel}/${level}`;
  if (planes.has(key)) {
    const kept = planes.get(key);
    planes.delete(key);
    planes.set(key, kept);
    return kept;
  }
  const answer = ask(`/api/sites/${site}/channels/${channel}?level=${level}`).then(async (response) => {
    const buffer = await response.arrayBuffer();
    const bits = Number(response.headers.get("X-Bits"));
    return {
      key,
      pixels: bits === 16 ? new Uint16Array(buffer) : new Uint8Array(buffer),
      width: Number(response.headers.get("X-Width")),
      height: Number(response.headers.get("X-Height")),
    };
  });
  planes.set(key, answer);
  answer.catch(() => planes.delete(key));
  while (planes.size > KEEP) planes.delete(planes.keys().next().value);
  return answer;
}

function start() {
  worker = new Worker("/assets/compose_worker.js", { type: "module" });
  worker.onmessage = ({ data }) => {
    const { resolve, retry } = jobs.get(data.job);
    jobs.delete(data.job);
    if (data.missing) {
      data.missing.forEach((key) => sent.delete(key));
      retry();
    } else resolve(data.rgba);
  };
  worker.onerror = () => {
    for (const { reject } of jobs.values()) reject(new Error("The image could not be drawn. Reload the page."));
    jobs.clear();
  };
}

/** Mix layers [{plane, color, low, high, gamma}] to ImageData. */
export function mix(layers) {
  if (!worker) start();
  const { width, height } = layers[0].plane;
  return new Promise((resolve, reject) => {
    const post = () => {
      for (const { plane: { key, pixels } } of layers) {
        if (!sent.has(key)) {
          sent.add(key);
          worker.postMessage({ add: { key, pixels } });
        }
      }
      const job = ++counter;
      jobs.set(job, { resolve: (rgba) => resolve(new ImageData(rgba, width, height)), retry: post, reject });
      worker.postMessage({ job, n: width * height, layers: layers.map(({ plane: { key }, color, low, high, gamma }) => ({ key, color, low, high, gamma })) });
    };
    post();
  });
}
