// The viewer: NiiVue draws; this page chooses the case, its layers, the window, the labels, and how many voxels.
import { Niivue } from "./niivue.js";

const $ = (id) => document.getElementById(id);
const ask = async (path) => {
  const answer = await fetch(path), content = await answer.json();
  if (!answer.ok) throw new Error(content.error ?? answer.statusText);
  return content;
};
const tell = (text, wrong = false) => { $("status").value = text; $("status").classList.toggle("wrong", wrong); };

const OPACITY = { image: 1, labels: 0.5, outline: 1, difference: 0.8, probability: 0.6 };
const COLOURED = new Set(["labels", "outline", "difference"]), CLASSES = new Set(["labels", "outline"]);
const DIFFERENCE = { 1: [0xd5, 0x5e, 0x00], 2: [0x56, 0xb4, 0xe9] };
const state = { cases: [], shown: [], number: -1, about: null, always: [], remarks: [], layers: [], hidden: new Set(), step: 0, turn: 0 };
const nv = new Niivue({
  backColor: [0, 0, 0, 1], crosshairColor: [0.9, 0.9, 0.9, 0.6], isRadiologicalConvention: true, dragAndDropEnabled: false,
  isResizeCanvas: true, show3Dcrosshair: true, loadingText: "", multiplanarShowRender: 1, multiplanarLayout: 2, logLevel: "error",
  crosshairWidth: 0.15, crosshairWidthUnit: "percent",
});
// Where the crosshair is, and what the layers that are shown have there.
nv.onLocationChange = ({ mm, values }) => {
  const found = values.flatMap(({ name, value }) => {
    const layer = state.layers.find((one) => `${one.key}.nii` === name);
    if (!layer?.on || layer.kind === "difference") return [];
    if (!CLASSES.has(layer.kind)) return [`${layer.name} ${Number(value.toPrecision(4))}`];
    const label = state.about.labels.find((one) => one.value === Math.round(value));
    return label ? [`${layer.name}: ${label.name}`] : [];
  });
  $("where").value = [`x ${mm[0].toFixed(1)}, y ${mm[1].toFixed(1)}, z ${mm[2].toFixed(1)} mm`, ...found].join(" · ");
};

const colormap = (layer) => {
  const rows = layer.kind === "difference"
    ? Object.entries(DIFFERENCE).map(([value, colour]) => ({ value: Number(value), name: "", colour }))
    : state.about.labels;
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const { value, name, colour } of rows) {
    table.R.push(colour[0]); table.G.push(colour[1]); table.B.push(colour[2]);
    table.A.push(CLASSES.has(layer.kind) && state.hidden.has(value) ? 0 : 255);
    table.I.push(value); table.labels.push(name);
  }
  return table;
};
const dress = () => {
  state.layers.filter((layer) => layer.volume).forEach((layer) => {
    if (COLOURED.has(layer.kind)) layer.volume.setColormapLabel(colormap(layer));
    layer.volume.opacity = layer.on ? layer.opacity : 0;
  });
  nv.updateGLVolume();
};

const nth = (step) => `every ${step}${{ 2: "nd", 3: "rd" }[step] ?? "th"} voxel`;
const note = (remarks) => { state.remarks.push(...remarks); $("remarks").textContent = state.remarks.join("\n"); $("remarks").hidden = !state.remarks.length; };

// A layer that cannot be read is reported, and the others are shown.
const fetched = async (layer, step) => {
  try {
    const answer = await fetch(`case/${state.number}/${layer.key}?${step}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    return URL.createObjectURL(await answer.blob());
  } catch (error) {
    layer.broken = true;
    note([`${layer.name} is left out: ${error.message}`]);
    return null;
  }
};
const volume = (layer, url) => ({
  url, name: `${layer.key}.nii`, opacity: layer.on ? layer.opacity : 0,
  ...(layer.kind === "image" ? { colormap: "gray", cal_min: layer.low, cal_max: layer.high } : {}),
  ...(layer.kind === "probability" ? { colormap: "warm", cal_min: 0.05, cal_max: 1 } : {}),
});

// Layers as every `step`-th voxel, in their order: the first one, an image, lies below the others.
const load = async (step, layers) => {
  const turn = ++state.turn;
  tell(step > 1 ? `Loading ${nth(step)} …` : "Loading …");
  const sources = [];
  for (const layer of layers) sources.push(await fetched(layer, step));
  if (turn !== state.turn) return false; // another case was asked for meanwhile
  const wanted = layers.filter((layer) => !layer.broken), urls = sources.filter((url) => url);
  await nv.loadVolumes(wanted.map((layer, place) => volume(layer, urls[place])));
  urls.forEach((url) => URL.revokeObjectURL(url));
  if (turn !== state.turn) return false;
  state.layers = state.layers.filter((layer) => !layer.broken);
  state.layers.forEach((layer) => { layer.volume = null; });
  wanted.forEach((layer, place) => { layer.volume = nv.volumes[place]; });
  state.step = step;
  listLayers();
  dress();
  nv.createOnLocationChange(); // where the crosshair is, before it is moved
  const size = state.about.shape.toReversed().join(" × ");
  tell(step > 1 ? `${size} voxels, ${nth(step)} shown` : `${size} voxels`);
  $("full").hidden = step <= 1;
  document.body.dataset.shown = `${state.number}/${step}/${wanted.length}`;
  return true;
};
const wanted = () => state.layers.filter((layer, place) => place === 0 || layer.on || layer.volume);

const open = async (number) => {
  const turn = ++state.turn;
  state.number = number;
  state.remarks = [];
  $("cases").value = String(number);
  $("place").textContent = `${number + 1} of ${state.cases.length}`;
  tell("Reading …");
  try {
    const about = await ask(`case/${number}`);
    if (turn !== state.turn) return;
    const before = new Map(state.layers.map((layer) => [layer.key, layer]));
    state.about = about;
    state.layers = about.layers.map((layer, place) => ({
      ...layer, volume: null, ...(place === 0 && layer.kind === "image" ? { low: about.window[0], high: about.window[1] } : {}),
      on: before.get(layer.key)?.on ?? (place === 0 || (CLASSES.has(layer.kind) && layer.shown)),
      opacity: before.get(layer.key)?.opacity ?? OPACITY[layer.kind],
    }));
    note([...state.always, ...about.remarks]);
    [$("low").value, $("high").value] = about.window.map((value) => Number(value.toPrecision(4)));
    document.title = `${about.name} · nnunet_rs view`;
    $("canvas").setAttribute("aria-label", `${about.name}: ${about.layers.map((layer) => layer.name).join(", ")}`);
    listLayers();
    listLabels();
    if (!state.layers.length) throw new Error("There is nothing to show of this case.");
    const [first, second] = about.steps, more = state.layers.length > 1;
    if (more && !(await load(first, state.layers.slice(0, 1)))) return;
    if (!about.labels.length && state.layers.some((layer) => CLASSES.has(layer.kind))) {
      about.labels = await ask(`case/${number}/labels`).catch(() => []);
      listLabels();
    }
    if (!(await load(first, wanted()))) return;
    if (second) await load(second, wanted());
  } catch (error) {
    tell(error.message, true);
    nv.volumes.slice().forEach((volume) => nv.removeVolume(volume));
    document.body.dataset.shown = `${number}/failed`;
  }
};

const element = (name, properties, ...inner) => { const made = Object.assign(document.createElement(name), properties); made.append(...inner); return made; };
const listLayers = () => {
  $("layers").replaceChildren(...state.layers.map((layer) => {
    const box = element("input", { type: "checkbox", checked: layer.on });
    const range = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: layer.opacity, ariaLabel: `Opacity of ${layer.name}` });
    box.addEventListener("change", () => turnOn(layer, box.checked));
    range.addEventListener("input", () => { layer.opacity = Number(range.value); dress(); });
    const row = element("div", { className: "layer" }, element("label", {}, box, layer.name), range);
    row.dataset.key = layer.key;
    return row;
  }));
};
const turnOn = (layer, on) => {
  layer.on = on;
  listLayers();
  if (on && !layer.volume) load(state.step, wanted()); else dress();
};
const listLabels = () => {
  $("labels").replaceChildren(...state.about.labels.map(({ value, name, colour }) => {
    const box = element("input", { type: "checkbox", checked: !state.hidden.has(value) }), mark = element("i", {});
    mark.style.background = `rgb(${colour.join(" ")})`;
    box.addEventListener("change", () => { state.hidden[box.checked ? "delete" : "add"](value); dress(); });
    return element("label", { className: "label" }, box, mark, name);
  }));
};
const listCases = () => {
  const wanted = $("filter").value.toLowerCase();
  state.shown = state.cases.flatMap((name, number) => (name.toLowerCase().includes(wanted) ? [number] : []));
  $("cases").replaceChildren(...state.shown.map((number) => element("option", { value: number, textContent: state.cases[number] })));
  $("cases").value = String(state.number);
};
const move = (by) => {
  const place = state.shown.indexOf(state.number), next = state.shown[place < 0 ? 0 : place + by];
  if (next !== undefined) open(next);
};
let slice = 3; // NiiVue's number of the view: axial, coronal, sagittal, all, 3-D
const ACROSS = { 0: [0, 0, 1], 1: [0, 1, 0], 2: [1, 0, 0], 3: [0, 0, 1] }; // voxels (x, y, z) to the next slice
const scroll = (by) => { if (ACROSS[slice] && nv.volumes.length) nv.moveCrosshairInVox(...ACROSS[slice].map((one) => one * by)); };
const turn = (to) => {
  slice = to;
  document.querySelectorAll("[data-slice]").forEach((button) => button.setAttribute("aria-pressed", Number(button.dataset.slice) === slice));
  nv.setSliceType(slice);
};
const shade = () => {
  const [low, high] = [$("low"), $("high")].map((input) => Number(input.value)), image = state.layers.find((layer) => layer.kind === "image");
  if (!image?.volume || !(low < high)) return;
  [image.low, image.high] = [low, high];
  [image.volume.cal_min, image.volume.cal_max] = [low, high];
  nv.updateGLVolume();
};

$("filter").addEventListener("input", listCases);
$("cases").addEventListener("change", () => open(Number($("cases").value)));
$("back").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));
$("full").addEventListener("click", () => load(1, wanted()));
for (const id of ["low", "high"]) $(id).addEventListener("change", shade);
document.querySelectorAll("[data-slice]").forEach((button) => button.addEventListener("click", () => turn(Number(button.dataset.slice))));
const KEYS = { m: () => turn(3), a: () => turn(0), c: () => turn(1), s: () => turn(2), v: () => turn(4), n: () => move(1), b: () => move(-1), f: () => !$("full").hidden && load(1, wanted()) };
for (const [key, layer] of Object.entries({ r: "reference", p: "prediction", d: "difference" })) {
  KEYS[key] = () => { const found = state.layers.find((one) => one.key === layer); if (found) turnOn(found, !found.on); };
}
const SLICES = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]):not([type=range]), select")) return;
  const by = SLICES[event.key], act = by ? !event.target.matches("input") && (() => scroll(by)) : KEYS[event.key.toLowerCase()];
  if (act) { event.preventDefault(); event.stopPropagation(); act(); }
}, true);

// WebGL forgets what it drew: paper gets a picture of the canvas.
addEventListener("beforeprint", () => { nv.drawScene(); $("paper").src = $("canvas").toDataURL(); });

try {
  const { title, cases, remarks } = await ask("cases");
  state.cases = cases;
  $("title").textContent = title;
  listCases();
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("This browser has no WebGL 2. `nnunet-rs report` makes pages that need none.");
  await nv.attachToCanvas($("canvas"));
  nv.setSliceType(3);
  state.always = remarks;
  await open(0);
} catch (error) {
  tell(error.message, true);
}
