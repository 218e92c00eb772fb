// The reader study: who reads, one volume after another, and what came out.
import {$, announce, ask, make, shown, tell, trying} from "./page.js";
import {Viewer} from "./viewer.js";

const PARTS = ["begin", "reading", "end", "results"];
let state = null;
let reading = null; // {reader, order, answers, place}
let viewer = null;

function part(name) {
  for (const id of PARTS) $(`#${id}`).hidden = id !== name;
  $(`#${name} h2[tabindex]`)?.focus();
}

async function begin() {
  state = await ask("/api/readers/state");
  if (state.complete) return results();
  const all = state.cases;
  $("#who").replaceChildren(...state.done.map((done, i) => make("button", {
    type: "button", class: done < all ? "primary" : "", onclick: () => trying(() => read(i + 1)),
  }, `Reader ${i + 1}: ${done === all ? "has read all" : `${done} of ${all} read`}`)));
  part("begin");
  return undefined;
}

async function read(reader) {
  reading = {reader, ...await ask(`/api/readers/reader/${reader}`)};
  const next = reading.order.findIndex((item) => !(item in reading.answers));
  if (next < 0) return over();
  return show(next);
}

/** The number of the volume is drawn, as its place is: neither tells what it is. */
async function show(place) {
  reading.place = place;
  const item = reading.order[place];
  const title = `Volume ${place + 1} of ${reading.order.length}`;
  $("#place").textContent = `Reader ${reading.reader}: ${title.toLowerCase()}`;
  $("#bar").max = reading.order.length;
  $("#bar").value = Object.keys(reading.answers).length;
  $("#back").disabled = place === 0;
  const given = reading.answers[item];
  for (const name of ["verdict", "quality"]) {
    for (const radio of document.getElementsByName(name)) {
      radio.checked = given !== undefined && radio.value === String(given[name]);
    }
  }
  part("reading");
  $("#next").disabled = true;
  if (!viewer) {
    viewer = new Viewer({label: title});
    $("#volume").replaceChildren(viewer.element);
  }
  const suffix = state.picture ? "png" : "nii";
  await viewer.show(`/api/readers/volumes/${item}.${suffix}`,
    {title, picture: state.picture, range: state.picture ? null : [0, 255]});
  $("#next").disabled = false;
  announce(title);
}

const chosen = (name) => [...document.getElementsByName(name)].find((radio) => radio.checked)?.value;

async function keep() {
  const verdict = chosen("verdict");
  const quality = Number(chosen("quality"));
  if (!verdict || !quality) {
    throw new Error("Both questions need an answer: real or synthetic, and a quality of 1 to 5.");
  }
  const item = reading.order[reading.place];
  $("#next").disabled = true; // a second Enter must not answer the next volume
  const {complete} = await ask("/api/readers/answer", {reader: reading.reader, item, verdict, quality})
    .finally(() => { $("#next").disabled = false; });
  reading.answers[item] = {verdict, quality};
  if (complete) return results();
  const after = reading.place + 1;
  return after < reading.order.length ? show(after) : read(reading.reader);
}

async function over() {
  state = await ask("/api/readers/state");
  const left = state.done.filter((done) => done < state.cases).length;
  $("#left").textContent = `Thank you. The results are shown when all have read; ${left} of ` +
    `${state.done.length} readers have not.`;
  part("end");
}

function row(name, {value, low, high, n, how, note}) {
  const interval = low === null ? "" : `${shown(low)} to ${shown(high)}`;
  return make("tr", {}, make("th", {scope: "row"}, name),
    make("td", {class: "number"}, value === null ? "undefined" : shown(value)),
    make("td", {class: "number"}, interval), make("td", {class: "number"}, String(n)),
    make("td", {class: "faint"}, [how, note].filter(Boolean).join("; ")));
}

async function results() {
  const found = await ask("/api/readers/results");
  $("#about").textContent = `${found.readers} readers, ${found.cases} cases, half of them synthetic; ` +
    `image ${found.sequence}, seed ${found.seed}.`;
  const each = Object.entries(found.by_reader).map(([reader, numbers]) =>
    row(`Right, reader ${reader}`, numbers.accuracy));
  const all = Object.entries(found.labels).map(([name, label]) => row(label, found.metrics[name]));
  $("#rows").replaceChildren(...each, ...all);
  part("results");
}

$("#questions").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("#next").disabled) trying(keep);
});
$("#back").addEventListener("click", () => trying(() => show(reading.place - 1)));
$("#others").addEventListener("click", () => trying(begin));
document.addEventListener("keydown", (event) => {
  if ($("#reading").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const value = {r: "real", s: "synthetic"}[key] ?? (/^[1-5]$/.test(key) ? key : null);
  const radio = value && document.querySelector(`#questions input[value="${value}"]`);
  if (!radio) return;
  // NiiVue has keys of its own, which would change the picture.
  event.preventDefault();
  event.stopImmediatePropagation();
  radio.checked = true;
  tell(null);
}, true);
trying(begin);
