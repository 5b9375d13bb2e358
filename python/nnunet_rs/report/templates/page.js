"use strict";
// Slices to scroll through: a slider, arrow keys, dragging sideways; layers switched by buttons or their keys.
for (const viewer of document.querySelectorAll(".viewer")) {
  const data = JSON.parse(viewer.querySelector("script").textContent);
  const stage = viewer.querySelector(".stage"), slider = viewer.querySelector("input"), output = viewer.querySelector("output");
  const layers = [...viewer.querySelectorAll(".layer")], buttons = [...viewer.querySelectorAll("button")];
  const select = viewer.querySelector("select"), differences = viewer.querySelector(".differences");
  const last = data.indices.length - 1;
  let place = Number(viewer.dataset.first), channel = 0, wanted = 0;

  const source = (layer) => (layer === "image" ? data.image[channel] : data[layer])[place];
  const show = async () => {
    const turn = ++wanted, sources = layers.map((layer) => source(layer.dataset.layer));
    const text = `${data.plane} ${data.indices[place]} of ${data.count}`;
    slider.value = place;
    slider.setAttribute("aria-valuetext", text);
    output.value = text;
    await Promise.allSettled(sources.map((uri) => { const next = new Image(); next.src = uri; return next.decode(); }));
    if (turn !== wanted) return; // another slice was asked for meanwhile
    layers.forEach((layer, number) => { layer.src = sources[number]; });
    layers[0].alt = layers[0].alt.replace(/slice \d+ of/, `slice ${data.indices[place]} of`);
  };
  const move = (to) => {
    const next = Math.min(last, Math.max(0, to));
    if (next !== place) { place = next; show(); }
  };
  const toggle = (name) => {
    const button = buttons.find((one) => one.dataset.layer === name);
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    layers.find((one) => one.dataset.layer === name).hidden = !on;
    if (name === "difference") differences.hidden = !on;
  };

  slider.addEventListener("input", () => move(Number(slider.value)));
  buttons.forEach((button) => button.addEventListener("click", () => toggle(button.dataset.layer)));
  if (select) select.addEventListener("change", () => { channel = Number(select.value); show(); });
  const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -Infinity, End: Infinity };
  const keys = { r: "reference", p: "prediction", d: "difference" };
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === select) return;
    if (event.key in steps && event.target === stage) { move(place + steps[event.key]); event.preventDefault(); }
    if (keys[event.key.toLowerCase()]) toggle(keys[event.key.toLowerCase()]);
  });
  let grabbed = null;
  stage.addEventListener("pointerdown", (event) => { grabbed = { x: event.clientX, place }; stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointermove", (event) => {
    if (grabbed) move(grabbed.place + Math.round(((event.clientX - grabbed.x) / stage.clientWidth) * 1.5 * last));
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { grabbed = null; });
  viewer.querySelector(".controls").hidden = false;
}

// The contents follow the reader.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
document.querySelectorAll("header[id], section[id]").forEach((part) => seen.observe(part));

// Paper shows what is folded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.dataset.was = one.open; one.open = true; }));
addEventListener("afterprint", () => document.querySelectorAll("details").forEach((one) => { one.open = one.dataset.was === "true"; }));
