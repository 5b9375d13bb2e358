"use strict";
// Slices to scroll through: a slider, keys, the wheel, dragging sideways; planes and layers by buttons or their keys.
for (const viewer of document.querySelectorAll(".viewer")) {
  const views = JSON.parse(viewer.querySelector("script").textContent);
  const stage = viewer.querySelector(".stage"), picture = viewer.querySelector(".picture");
  const slider = viewer.querySelector("input"), output = viewer.querySelector("output");
  const layers = [...viewer.querySelectorAll(".layer")], buttons = [...viewer.querySelectorAll("button[data-layer]")];
  const planes = [...viewer.querySelectorAll("button[data-view]")], places = views.map((view) => view.first);
  const select = viewer.querySelector("select"), differences = viewer.querySelector(".differences");
  let view = 0, channel = 0, wanted = 0;

  const last = () => views[view].indices.length - 1;
  const source = (layer) => (layer === "image" ? views[view].image[channel] : views[view][layer])[places[view]];
  const show = async () => {
    const turn = ++wanted, shown = views[view], sources = layers.map((layer) => source(layer.dataset.layer));
    const text = `${shown.plane} ${shown.indices[places[view]]} of ${shown.count}`;
    slider.max = last();
    slider.disabled = last() < 1;
    slider.value = places[view];
    slider.setAttribute("aria-valuetext", text);
    output.value = text;
    await Promise.allSettled(sources.map((uri) => { const next = new Image(); next.src = uri; return next.decode(); }));
    if (turn !== wanted) return; // another slice was asked for meanwhile
    picture.style.aspectRatio = `${shown.size[0]} / ${shown.size[1]}`;
    picture.style.setProperty("--shape", shown.size[0] / shown.size[1]);
    layers.forEach((layer, number) => { layer.src = sources[number]; });
    layers[0].alt = layers[0].alt.replace(/^\w+ slice \d+ of \d+/, `${shown.plane} slice ${shown.indices[places[view]]} of ${shown.count}`);
  };
  const move = (to) => {
    const next = Math.min(last(), Math.max(0, to)), moved = next !== places[view];
    if (moved) { places[view] = next; show(); }
    return moved;
  };
  const turn = (to) => {
    view = to;
    planes.forEach((button) => button.setAttribute("aria-pressed", Number(button.dataset.view) === to));
    show();
  };
  const toggle = (name) => {
    const button = buttons.find((one) => one.dataset.layer === name);
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    layers.find((one) => one.dataset.layer === name).hidden = !on;
    if (name === "difference") differences.hidden = !on;
  };

  slider.addEventListener("input", () => move(Number(slider.value)));
  buttons.forEach((button) => button.addEventListener("click", () => toggle(button.dataset.layer)));
  planes.forEach((button) => button.addEventListener("click", () => turn(Number(button.dataset.view))));
  if (select) select.addEventListener("change", () => { channel = Number(select.value); show(); });
  const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -Infinity, End: Infinity };
  const keys = { r: "reference", p: "prediction", d: "difference" };
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === select) return;
    if (event.key in steps && event.target === stage) { move(places[view] + steps[event.key]); event.preventDefault(); }
    const key = event.key.toLowerCase(), plane = views.findIndex((one) => one.plane[0] === key);
    if (keys[key]) toggle(keys[key]);
    if (plane >= 0 && planes.length) turn(plane);
  });
  // The wheel scrolls the page until the picture is chosen, and again where its slices end.
  let rolled = 0;
  stage.addEventListener("wheel", (event) => {
    if (document.activeElement !== stage || event.ctrlKey) return;
    rolled += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
    const count = Math.trunc(rolled), next = places[view] - (count || Math.sign(event.deltaY));
    rolled -= count;
    if (next < 0 || next > last()) return;
    event.preventDefault();
    if (count) move(next);
  }, { passive: false });
  let grabbed = null;
  stage.addEventListener("pointerdown", (event) => { grabbed = { x: event.clientX, place: places[view] }; stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointermove", (event) => {
    if (grabbed) move(grabbed.place + Math.round(((event.clientX - grabbed.x) / stage.clientWidth) * 1.5 * last()));
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

// Paper shows what is folded; some browsers say twice that they print.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.dataset.was ??= one.open; one.open = true; }));
addEventListener("afterprint", () => document.querySelectorAll("details[data-was]").forEach((one) => { one.open = one.dataset.was === "true"; delete one.dataset.was; }));

// A page of running trainings loads itself anew, but not while somebody scrolls through a case; what was open stays open.
if (document.body.dataset.refresh) {
  const folded = [...document.querySelectorAll("details")], key = `open ${location.pathname}`;
  try { (sessionStorage.getItem(key) ?? "").split(" ").filter(Boolean).forEach((place) => { if (folded[place]) folded[place].open = true; }); } catch { /* a browser that keeps nothing */ }
  setInterval(() => {
    if (document.hidden || document.activeElement.closest(".viewer")) return;
    try { sessionStorage.setItem(key, folded.flatMap((one, place) => (one.open ? [place] : [])).join(" ")); } catch { /* as above */ }
    location.reload();
  }, 1000 * Number(document.body.dataset.refresh));
}
