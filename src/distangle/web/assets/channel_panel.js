// Controls of the channels: on/off, color, contrast and brightness curve; and their text in the address.
import { debounce, el } from "./dom.js";
import { rgb } from "./color.js";
import { keep } from "./route.js";
import { Look } from "./image_view.js";

/** Make the look of a view from the channels of the folder and the address. */
export function lookOf(facts, query) {
  const look = new Look();
  const wanted = new Map(query.getAll("c").map((text) => {
    const [id, on, color, low, high, gamma] = text.split(",");
    return [Number(id), { on: on === "1", color: /^[0-9a-f]{6}$/i.test(color) ? `#${color}` : null, low: Number(low), high: Number(high), gamma: Number(gamma) }];
  }));
  look.channels = facts.channels.map((channel) => {
    const state = wanted.get(channel.id);
    const color = state?.color ?? channel.color;
    const sure = state && [state.low, state.high, state.gamma].every(Number.isFinite);
    return {
      id: channel.id, label: channel.label || channel.name, color, rgb: rgb(color), on: state ? state.on : true,
      low: sure ? state.low : null, high: sure ? state.high : null, gamma: sure && state.gamma > 0 ? state.gamma : 1,
    };
  });
  look.start = facts.channels.map((channel) => channel.color);
  look.ready = look.channels.every((channel) => channel.low !== null);
  // The first image gives the contrast where the address does not; a linked control keeps the same contrast.
  look.fill = (info) => {
    if (look.info) return;
    look.info = info;
    for (const channel of look.channels) {
      const own = info.channels.find((item) => item.id === channel.id);
      channel.preset = { low: own?.low ?? 0, high: own?.high ?? 2 ** info.bits - 1 };
      if (channel.low === null) Object.assign(channel, channel.preset);
    }
    look.dispatchEvent(new CustomEvent("change", { detail: "ready" }));
  };
  const [zoom, x, y] = (query.get("z") ?? "").split(",").map(Number);
  if ([zoom, x, y].every(Number.isFinite)) {
    Object.assign(look, { zoom, x, y });
    look.clamp();
  }
  const [channel, opacity, under] = (query.get("overlay") ?? "").split(",");
  if (channel) look.overlay = { channel, grey: under !== "color", opacity: Number.isFinite(Number(opacity)) && opacity !== undefined ? Number(opacity) : 0.6 };
  return look;
}

/** Keep the look in the address. */
export function keepLook(look) {
  const write = debounce(() => {
    const change = look.channels.some((channel, k) => !channel.on || channel.color !== look.start[k] || channel.gamma !== 1
      || (channel.preset && (channel.low !== channel.preset.low || channel.high !== channel.preset.high)));
    const number = (value) => Number(value.toPrecision(5));
    keep({
      c: change ? look.channels.map((channel) => [channel.id, channel.on ? 1 : 0, channel.color.slice(1), channel.low ?? "", channel.high ?? "", number(channel.gamma)].join(",")) : null,
      z: look.zoom === 1 ? null : [look.zoom, look.x, look.y].map(number).join(","),
      overlay: look.overlay.channel ? `${look.overlay.channel},${number(look.overlay.opacity)}${look.overlay.grey ? "" : ",color"}` : null,
    });
  }, 150);
  look.addEventListener("change", (event) => { if (["channels", "view", "overlay"].includes(event.detail)) write(); });
}

function slider(text, { min, max, step, value, on, name }) {
  const out = el("output", { text: String(value) });
  const box = el("input", { type: "range", min, max, step, value, "aria-label": name });
  box.addEventListener("input", () => {
    out.textContent = box.value;
    on(Number(box.value));
  });
  return { node: el("label", { class: "slide" }, el("span", { text }), box, out), set: (number) => { box.value = number; out.textContent = String(number); } };
}

function channelRow(look, channel, top, update) {
  const tick = el("input", { type: "checkbox", checked: channel.on, on: { change: () => { channel.on = tick.checked; update(); } } });
  const color = el("input", { type: "color", value: channel.color, "aria-label": `Color of ${channel.label}`, on: { input: () => {
    Object.assign(channel, { color: color.value, rgb: rgb(color.value) });
    update();
  } } });
  const only = el("button", { type: "button", class: "quiet", text: "only", "aria-label": `Show only ${channel.label}`, on: { click: () => {
    const alone = look.channels.every((other) => other.on === (other === channel));
    look.channels.forEach((other) => { other.on = alone || other === channel; });
    look.set("channels", {});
    look.dispatchEvent(new CustomEvent("change", { detail: "panel" }));
  } } });
  const low = slider("dark", { min: 0, max: top, step: 1, value: Math.round(channel.low), name: `Darkest value of ${channel.label}`, on: (value) => {
    channel.low = Math.min(value, channel.high - 1);
    update();
  } });
  const high = slider("bright", { min: 1, max: top, step: 1, value: Math.round(channel.high), name: `Brightest value of ${channel.label}`, on: (value) => {
    channel.high = Math.max(value, channel.low + 1);
    update();
  } });
  const gamma = slider("gamma", { min: 0.2, max: 3, step: 0.05, value: channel.gamma, name: `Gamma of ${channel.label}`, on: (value) => {
    channel.gamma = value;
    update();
  } });
  const reset = el("button", { type: "button", class: "quiet", text: "reset", "aria-label": `Reset ${channel.label}`, on: { click: () => {
    Object.assign(channel, channel.preset, { gamma: 1 });
    low.set(Math.round(channel.low));
    high.set(Math.round(channel.high));
    gamma.set(1);
    update();
  } } });
  const head = el("div", { class: "channel-head" }, el("label", { class: "tick" }, tick, channel.label), color, only);
  return el("div", { class: "channel" }, head, el("details", {}, el("summary", { text: "contrast", "aria-label": `Contrast of ${channel.label}` }), low.node, high.node, gamma.node, reset));
}

/** The panel of all channels; it waits for the first image to know the contrast. */
export function channelPanel(look) {
  const body = el("div", { class: "channels" });
  const update = () => look.set("channels", {});
  const fill = () => {
    if (!look.info) return;
    const open = [...body.querySelectorAll("details")].map((item) => item.open);
    const top = Math.max(look.info.bits === 16 ? 4095 : 255, ...look.channels.map((channel) => Math.ceil(channel.high * 2)));
    const limit = Math.min(2 ** look.info.bits - 1, top);
    const auto = el("button", { type: "button", text: "Reset all", on: { click: () => {
      look.channels.forEach((channel, k) => Object.assign(channel, channel.preset, { gamma: 1, on: true, color: look.start[k], rgb: rgb(look.start[k]) }));
      update();
      fill();
    } } });
    body.replaceChildren(...look.channels.map((channel) => channelRow(look, channel, limit, update)), auto);
    body.querySelectorAll("details").forEach((item, k) => { item.open = open[k] ?? false; });
  };
  look.addEventListener("change", (event) => { if (event.detail === "ready" || event.detail === "panel") fill(); });
  fill();
  return el("section", { class: "panel", "aria-label": "Channels" }, el("h2", { text: "Channels" }), body);
}

/** The panel of the overlay; `explained` says whether the site has a map. */
export function overlayPanel(look, legendBar) {
  const options = [["", "off"], ["all", "all channels"], ...look.channels.map((channel) => [String(channel.id), channel.label])];
  const box = el("select", { on: { change: () => look.set("overlay", { overlay: { ...look.overlay, channel: box.value } }) } },
    options.map(([value, text]) => el("option", { value, text, selected: value === look.overlay.channel })));
  const opacity = slider("opacity", { min: 0, max: 1, step: 0.05, value: look.overlay.opacity, name: "Opacity of the overlay", on: (value) => look.set("overlay", { overlay: { ...look.overlay, opacity: value } }) });
  const grey = el("input", { type: "checkbox", checked: look.overlay.grey, on: { change: () => look.set("overlay", { overlay: { ...look.overlay, grey: grey.checked } }) } });
  const note = el("p", { class: "small", role: "status" });
  const say = () => { note.textContent = look.overlay.channel ? look.note ?? "" : ""; };
  look.addEventListener("change", (event) => { if (event.detail === "note" || event.detail === "overlay") say(); });
  say();
  return el("section", { class: "panel", "aria-label": "Attribution overlay" }, el("h2", { text: "Why: where the network looked" }),
    el("label", { class: "field" }, el("span", { text: "Attribution of" }), box), opacity.node, el("label", { class: "tick" }, grey, "grey under the map"), legendBar, note);
}
