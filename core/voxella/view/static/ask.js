// The page "Ask": a form, the queue with its progress, and the volumes.
import {$, announce, ask, make, seconds, shown, tell, trying} from "./page.js";
import {Viewer} from "./viewer.js";

const PAUSE = 350; // ms without a key before the text is asked about
const BUSY = 1500; // ms before the text head is asked again
let model = null;
const cards = new Map(); // request number -> Card
const pairs = []; // [left number, right number] to be shown side by side

/** One request: its progress, then its images. */
class Card {
  constructor(job, quiet) {
    this.viewer = null;
    this.quiet = quiet; // shown when asked for
    this.title = make("h3", {}, `Request ${job.number}`);
    this.bar = make("progress", {max: 1, "aria-label": `Progress of request ${job.number}`});
    this.told = make("p", {class: "told"});
    this.cancel = make("button", {type: "button", onclick: () => trying(() =>
      ask(`/api/ask/jobs/${job.number}/cancel`, {}))}, "Cancel");
    this.body = make("div");
    this.element = make("article", {class: "card", "aria-label": `Request ${job.number}`},
      this.title, this.bar, this.told, this.cancel, this.body);
    this.drawn = false;
    this.update(job);
  }

  update(job) {
    this.job = {...this.job, ...job};
    const over = ["done", "cancelled", "failed"].includes(job.state);
    this.bar.hidden = this.cancel.hidden = over;
    if (job.steps) this.bar.value = job.done / job.steps;
    this.told.textContent = this.words(job);
    this.told.className = job.state === "failed" ? "told bad" : "told";
    if (over && job.state !== this.announced) announce(`Request ${job.number}: ${this.told.textContent}`);
    this.announced = job.state;
    if (job.images && !this.drawn) { this.drawn = true; this.draw(); }
  }

  words(job) {
    const left = job.left === null ? "" : `, about ${seconds(job.left)} left`;
    return {
      waiting: job.ahead === 1 ? "Waiting; one request is before it." :
        `Waiting; ${job.ahead} requests are before it.`,
      running: !job.steps ? "Loading the text encoder and the networks …" :
        job.done === job.steps ? "Decoding …" : `Step ${job.done} of ${job.steps}${left}.`,
      done: job.images ? `Done in ${shown(job.seconds)} s.` :
        "Done; its images made room for newer ones. The same seed gives the same images.",
      cancelled: "Cancelled.", failed: job.problem,
    }[job.state];
  }

  draw() {
    const {number, images, predicted} = this.job;
    const asked = this.job.asked ?? {};
    const facts = [`seed ${asked.seed}`, asked.label ?? "no label", `guidance ${asked.guidance}`];
    this.title.textContent = `Request ${number}: ${facts.join(", ")}`;
    const picks = make("div", {class: "row", role: "group", "aria-label": "Images"});
    const sequence = make("select", {"aria-label": "Sequence"},
      ...model.sequences.map((name) => make("option", {value: name}, name)));
    const place = make("select", {"aria-label": "Image"},
      ...Array.from({length: images}, (_, i) => make("option", {value: String(i)}, `image ${i + 1}`)));
    if (model.sequences.length > 1) picks.append(sequence);
    if (images > 1) picks.append(place);
    const said = make("p", {class: "faint"});
    const withText = make("input", {type: "checkbox"});
    const save = make("button", {type: "button"}, "Save");
    save.addEventListener("click", () => trying(async () => {
      const {folder} = await ask(`/api/ask/jobs/${number}/save`, {with_text: withText.checked});
      this.told.textContent = `Saved in ${folder}.`;
      announce(this.told.textContent);
    }));
    const holder = make("div");
    this.body.replaceChildren(picks, said, holder,
      make("div", {class: "row"}, save, make("label", {}, withText, " with the text")));
    const show = () => trying(async () => {
      const [label, probability] = predicted?.[Number(place.value)] ?? [];
      said.textContent = label ? `Text head at the last step: ${label} ${shown(probability)}` : "";
      await this.viewer.show(address(number, place.value, sequence.value),
        {title: `Request ${number}, image ${Number(place.value) + 1}, ${sequence.value}`, picture: model.picture});
    });
    const open = () => {
      openOnly(this);
      this.viewer = new Viewer({label: `Request ${number}`});
      holder.replaceChildren(this.viewer.element);
      return show();
    };
    this.close = () => {
      this.viewer?.close();
      this.viewer = null;
      holder.replaceChildren(make("button", {type: "button", onclick: open}, "Show"));
    };
    sequence.addEventListener("change", () => this.viewer && show());
    place.addEventListener("change", () => this.viewer && show());
    if (this.quiet) this.close(); else open();
  }
}

/** A browser gives about sixteen graphics contexts: the two newest cards keep theirs. */
const opened = [];
function openOnly(card) {
  opened.push(card);
  while (opened.length > 2) { const old = opened.shift(); if (old !== card) old.close?.(); }
}

const address = (number, place, sequence) => `/api/ask/jobs/${number}/images/${place}/` +
  `${encodeURIComponent(sequence)}.${model.picture ? "png" : "nii"}`;

function follow(job, quiet = false) {
  $("#none").hidden = true;
  let card = cards.get(job.number);
  if (!card) {
    card = new Card(job, quiet);
    cards.set(job.number, card);
    $("#jobs").prepend(card.element);
  }
  if (["done", "cancelled", "failed"].includes(job.state)) { card.update(job); return card; }
  const stream = new EventSource(`/api/ask/jobs/${job.number}/events`);
  stream.onmessage = (event) => {
    const told = JSON.parse(event.data);
    card.update(told);
    if (["done", "cancelled", "failed"].includes(told.state)) { stream.close(); sideBySide(); }
  };
  stream.onerror = () => {
    stream.close();
    // A stream that breaks may be a server that has gone: ask once, and tell.
    ask("/api/ask/jobs").then((all) => {
      const known = all.find((one) => one.number === job.number);
      if (known) follow(known); else card.update({...job, state: "failed", problem: "The server no longer knows it."});
    }).catch(tell);
  };
  return card;
}

function wanted(report, label) {
  const conditions = {};
  for (const field of document.querySelectorAll("#conditions [name]")) {
    if (field.value === "") continue;
    conditions[field.name] = field.type === "number" ? Number(field.value) : JSON.parse(field.value);
  }
  return {report: report.trim() ? report : "", label: label || null, conditions};
}

function settings() {
  const number = (name, usual) => ($(name).value === "" ? usual : Number($(name).value));
  return {seed: number("#seed", model.seed), steps: number("#steps", model.steps),
    guidance: number("#guidance", model.guidance), count: number("#count", 1)};
}

async function generate(report, label) {
  const asked = {...wanted(report, label), ...settings()};
  const job = await ask("/api/ask/jobs", asked);
  return follow({...job, asked});
}

async function both() {
  const left = await generate($("#report").value, $("#label").value);
  const right = await generate($("#other").value, $("#other-label").value);
  left.quiet = right.quiet = true; // they stand side by side instead
  pairs.push([left, right]);
}

let side = [];
async function sideBySide() {
  const ready = pairs.findIndex(([a, b]) => a.job.images && b.job.images);
  if (ready < 0) return;
  const [[left, right]] = pairs.splice(ready, 1);
  for (const viewer of side) viewer.close();
  side = [new Viewer({label: "First"}), new Viewer({label: "Second"}),
    new Viewer({label: "Difference", colormap: "inferno"})];
  $("#compared").hidden = false;
  $("#compared .side").replaceChildren(...side.map((viewer) => viewer.element));
  const [name] = model.sequences;
  const apart = `/api/ask/difference/${left.job.number}/0/${right.job.number}/0/` +
    `${encodeURIComponent(name)}.${model.picture ? "png" : "nii"}`;
  await trying(async () => {
    await side[0].show(address(left.job.number, 0, name), {title: `Request ${left.job.number}`, picture: model.picture});
    await side[1].show(address(right.job.number, 0, name), {title: `Request ${right.job.number}`, picture: model.picture});
    await side[2].show(apart, {title: "Difference, absolute", picture: model.picture});
    for (const one of side) one.link(side.filter((other) => other !== one));
    $("#compared").scrollIntoView({block: "nearest"});
  });
}

let timer = 0;
let asking = 0;
function typed() {
  clearTimeout(timer);
  timer = setTimeout(read, PAUSE);
}

async function read(patient = false) {
  const mine = ++asking;
  const place = $("#head");
  try {
    const {tokens, head, why} = await ask("/api/ask/text",
      {...wanted($("#report").value, $("#label").value), patient: patient === true});
    if (mine !== asking) return;
    if (tokens) {
      const unknown = tokens.unknown ? `, ${tokens.unknown} of them unknown to the encoder` : "";
      $("#tokens").textContent = `${tokens.tokens} of ${tokens.most} tokens${unknown}`;
      $("#cut").textContent = tokens.cut_characters === 0 ? "" :
        `Cut off at its ${tokens.end} (${tokens.cut_characters} characters): ${tokens.cut}`;
    }
    if (head) {
      const words = Object.entries(head).map(([name, p]) => `${name} ${shown(p)}`);
      place.textContent = `Text head: ${words.join(", ")}`;
    } else if (why === "slow") {
      place.replaceChildren(make("button", {type: "button", onclick: () => read(true)}, "Ask the text head"));
    } else {
      place.textContent = why === "busy" ? "Text head: when the networks are free." : "";
      // Loading or a generation has them: look again until they are free, or the text is another.
      if (why === "busy") timer = setTimeout(read, BUSY);
    }
  } catch (error) {
    if (mine === asking) place.textContent = error.message;
  }
}

function fill() {
  for (const name of ["#label", "#other-label"]) {
    $(name).append(...model.classes.map((label) => make("option", {value: label}, label)));
  }
  $("#label-field").hidden = $("#other-label-field").hidden = model.classes.length === 0;
  $("#reading").hidden = $("#second").hidden = !model.reads_text;
  for (const name of ["seed", "steps", "guidance"]) $(`#${name}`).value = model[name];
  $("#count").max = model.most_count;
  $("#conditions").hidden = model.conditions.length === 0;
  $("#conditions .fields").replaceChildren(...model.conditions.map((one) => {
    const about = one.required ? {name: one.name, required: ""} : {name: one.name};
    const field = one.kind === "number" ?
      make("input", {type: "number", step: "any", min: String(one.range[0]), max: String(one.range[1]), ...about}) :
      make("select", about, make("option", {value: ""}, "not known"),
        ...one.values.map((value) => make("option", {value: JSON.stringify(value)}, String(value))));
    const range = one.range ? ` (${one.range.join(" to ")})` : "";
    return make("label", {}, `${one.name}${range} `, field);
  }));
  model.examples.forEach((one, place) => $("#examples").append(make("option", {value: String(place)},
    one.label ? `${one.title}: ${one.label}` : one.title)));
  $("#examples").closest(".row").hidden = model.examples.length === 0;
}

function example() {
  const found = model.examples[Number($("#examples").value)];
  if ($("#examples").value === "" || !found) return;
  $("#report").value = found.report;
  $("#label").value = found.label ?? "";
  for (const field of document.querySelectorAll("#conditions [name]")) {
    const value = found.conditions[field.name];
    field.value = value === undefined || value === null ? "" :
      field.type === "number" ? String(value) : JSON.stringify(value);
  }
  read();
}

await trying(async () => {
  model = await ask("/api/ask/model");
  fill();
  const known = await ask("/api/ask/jobs");
  known.forEach((job, at) => follow(job, at < known.length - 1));
  // After a reload the newest is open again, with its text: it is in the server's memory alone.
  const last = [...cards.values()].at(-1);
  if (last?.job.asked) {
    $("#report").value = last.job.asked.report;
    $("#label").value = last.job.asked.label ?? "";
  }
  $("#form").addEventListener("submit", (event) => {
    event.preventDefault();
    trying(() => generate($("#report").value, $("#label").value));
  });
  $("#both").addEventListener("click", () => trying(both));
  $("#examples").addEventListener("change", example);
  for (const name of ["#report", "#label"]) $(name).addEventListener("input", typed);
  $("#report").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("#form").requestSubmit();
  });
  if (model.reads_text) read();
  document.body.dataset.ready = "";
});
