// The page "Compare": one case after the other, synthetic beside real beside nearest, and marks.
import {$, announce, ask, make, shown, trying} from "./page.js";
import {Viewer} from "./viewer.js";

let sets = [];
let rows = [];
let cases = 0;
let place = 0;
let current = null;
let viewers = [];
let loading = 0;

const MARKS = [...document.querySelectorAll("[data-mark]")];
const set = () => Number($("#set").value || 0);
const words = ([id, label, mark]) => [id, label, mark && `marked ${mark}`].filter(Boolean).join(", ");

async function openSet(wanted) {
  const found = await ask(`/api/compare/${set()}`);
  ({rows, cases} = found);
  $("#case").replaceChildren(...rows.map((row, at) => make("option", {value: String(at)}, words(row))));
  if (cases === 0) { $("#facts").textContent = "The data set has no case."; return; }
  await open(Math.min(Math.max(0, wanted), cases - 1));
}

async function open(at) {
  if (at < 0 || at >= cases) return;
  place = at;
  const mine = ++loading;
  location.replace(`#${set()}-${place}`);
  const found = await ask(`/api/compare/${set()}/${place}`);
  if (mine !== loading) return;
  current = found;
  $("#case").value = String(place);
  $("#position").textContent = `${place + 1} of ${cases}`;
  $("#before").disabled = place === 0;
  $("#next").disabled = place === cases - 1;
  const kept = $("#sequence").value;
  $("#sequence").replaceChildren(...current.sequences.map((name) => make("option", {value: name}, name)));
  if (current.sequences.includes(kept)) $("#sequence").value = kept;
  $("#sequence-field").hidden = current.sequences.length < 2;
  facts();
  marked(current.marked);
  await draw(mine);
}

function facts() {
  const [label, probability] = current.predicted;
  const told = [current.id, current.label ?? "no label", current.split];
  if (label) told.push(`text head: ${label} ${shown(probability)}`);
  if (current.source) told.push(`made from ${current.source}`);
  $("#facts").textContent = told.join(" · ");
  const table = current.nearest.map((one) => make("tr", {},
    make("td", {}, one.space), make("td", {}, one.training),
    make("td", {class: "number"}, shown(one.distance)),
    make("td", {class: "number"}, `${shown(one.ratio)} (threshold ${shown(one.threshold)})`),
    make("td", {class: "number"}, shown(one.p_value)),
    make("td", {class: one.suspected ? "bad" : "good"}, one.verdict)));
  $("#nearest").replaceChildren(...(table.length ? [make("div", {class: "scroll", tabindex: "0", role: "region",
    "aria-label": "Nearest training cases"}, make("table", {},
    make("caption", {class: "visually-hidden"}, "Nearest training case by the memorisation test"),
    make("thead", {}, make("tr", {}, ...["space", "nearest training case", "distance", "ratio", "p", "verdict"]
      .map((name) => make("th", {scope: "col"}, name)))), make("tbody", {}, ...table)))] :
    [make("p", {class: "faint"}, current.source === null ? "" :
      "The memorisation test has not named this case's nearest training case: voxella evaluate does.")]));
}

async function draw(mine) {
  for (const viewer of viewers) viewer.close();
  viewers = [];
  const name = $("#sequence").value;
  const wanted = [["synthetic", current.source === null ? current.id : `Synthetic: ${current.id}`]];
  if (current.real.includes(name)) wanted.push(["real", `Real counterpart: ${current.source}`]);
  const near = current.nearest.find((one) => one.there.includes(name));
  if (near) wanted.push([near.space, `Nearest training case (${near.space}): ${near.training}`]);
  viewers = wanted.map(([, title]) => new Viewer({label: title}));
  const own = viewers;
  $("#volumes").replaceChildren(...own.map((viewer) => viewer.element));
  // At once: three volumes are read by three threads of the server.
  await Promise.all(wanted.map(([side, title], at) =>
    own[at].show(`/api/compare/${set()}/${place}/${side}/${encodeURIComponent(name)}.nii`, {title, range: [0, 1]})));
  if (mine !== loading) return;
  for (const one of own) one.link(own.filter((other) => other !== one));
  document.body.dataset.shown = String(place);
}

function marked(mark) {
  for (const button of MARKS) button.setAttribute("aria-pressed", String(button.dataset.mark === mark?.mark));
  $("#note").value = mark?.note ?? "";
  $("#kept").textContent = mark ? `marked ${mark.mark}` : "not marked";
  $("#unmark").disabled = !mark;
}

async function keep(mark, note) {
  const found = await ask(`/api/compare/${set()}/${place}/mark`, {mark, note});
  const now = found.mark === null ? null : found;
  marked(now);
  announce(now ? `${current.id} is marked ${now.mark}` : `The mark of ${current.id} is taken back`);
  if (rows[place]) {
    rows[place][2] = found.mark;
    $("#case").options[place].textContent = words(rows[place]);
  }
  current.marked = now;
}

function key(event) {
  const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const mark = MARKS[Number(event.key) - 1];
  if (event.key === "n") trying(() => open(place + 1));
  else if (event.key === "p") trying(() => open(place - 1));
  else if (mark) trying(() => keep(mark.dataset.mark, $("#note").value));
  else return;
  event.preventDefault();
}

await trying(async () => {
  sets = await ask("/api/compare/sets");
  $("#set").replaceChildren(...sets.map((one, at) =>
    make("option", {value: String(at)}, `${one.name} (${one.cases})`)));
  $("#set-field").hidden = sets.length < 2;
  const [, at, from] = /^#(\d+)-(\d+)$/.exec(location.hash) ?? [];
  if (sets[Number(at)]) $("#set").value = at;
  $("#set").addEventListener("change", () => trying(() => openSet(0)));
  $("#case").addEventListener("change", () => trying(() => open(Number($("#case").value))));
  $("#sequence").addEventListener("change", () => trying(() => draw(++loading)));
  $("#before").addEventListener("click", () => trying(() => open(place - 1)));
  $("#next").addEventListener("click", () => trying(() => open(place + 1)));
  for (const button of MARKS) {
    button.addEventListener("click", () => trying(() => keep(button.dataset.mark, $("#note").value)));
  }
  $("#unmark").addEventListener("click", () => trying(() => keep(null, "")));
  $("#marking").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(() => keep(current.marked?.mark ?? null, $("#note").value));
  });
  document.addEventListener("keydown", key);
  await openSet(Number(from ?? 0));
  document.body.dataset.ready = "";
});
