// The page "Data": cases, what the check says of them, and their images.
import {$, ask, make, trying} from "./page.js";
import {Viewer} from "./viewer.js";

const SEVERITIES = ["error", "warning", "note"];
const TONE = {error: "bad", warning: "warn", note: "faint"};
let start = 0;
let page = 50;
let found = 0;
let viewer = null;

const finding = (one) => make("li", {}, make("strong", {class: TONE[one.severity]}, `${one.severity}: ${one.code}`),
  ` ${[one.where, one.message].filter(Boolean).join(": ")}. `, make("span", {class: "faint"}, one.remedy));

async function list(at) {
  const told = await ask(`/api/data/cases?start=${at}&only=${$("#only").value}`);
  ({start, page, found} = told);
  $("#how").textContent = `Findings: ${told.how}.`;
  $("#dataset").replaceChildren(...told.dataset.map(finding));
  $("#position").textContent = found === 0 ? "no such case" :
    `${start + 1} to ${Math.min(start + page, found)} of ${found}`;
  $("#before").disabled = start === 0;
  $("#next").disabled = start + page >= found;
  $("#cases").replaceChildren(...told.rows.map((row) => make("tr", {},
    make("th", {scope: "row"}, make("button", {type: "button", onclick: () => trying(() => open(row.place))}, row.id)),
    make("td", {}, row.split), make("td", {}, row.label ?? ""),
    ...SEVERITIES.map((name) => make("td", {class: `number ${row[name] ? TONE[name] : ""}`}, String(row[name]))))));
}

async function open(place) {
  const one = await ask(`/api/data/cases/${place}`);
  viewer?.close();
  viewer = new Viewer({label: one.id});
  const sequence = make("select", {"aria-label": "Sequence"},
    ...one.images.map((name) => make("option", {value: name}, name)));
  const conditions = Object.entries(one.conditions).map(([name, value]) => `${name} ${value ?? "not known"}`);
  const show = () => trying(() => viewer.show(`/api/data/cases/${place}/${encodeURIComponent(sequence.value)}.nii`,
    {title: `${one.id}, ${sequence.value}`}));
  sequence.addEventListener("change", show);
  const texts = Object.entries(one.texts).map(([name, text]) => make("details", {open: ""},
    make("summary", {}, name), make("p", {class: "report"}, text)));
  $("#one").hidden = false;
  $("#one").replaceChildren(make("h2", {tabindex: "-1"}, one.id),
    make("p", {class: "faint"}, [one.group, one.split, one.label, ...conditions].filter(Boolean).join(" · ")),
    one.findings.length ? make("ul", {}, ...one.findings.map(finding)) : make("p", {class: "good"}, "Nothing was found."),
    one.images.length > 1 ? sequence : "", one.images.length ? viewer.element : "", ...texts);
  $("#one h2").focus();
  if (one.images.length) await show();
  document.body.dataset.shown = String(place);
}

await trying(async () => {
  $("#only").addEventListener("change", () => trying(() => list(0)));
  $("#before").addEventListener("click", () => trying(() => list(Math.max(0, start - page))));
  $("#next").addEventListener("click", () => trying(() => list(start + page)));
  await list(0);
  document.body.dataset.ready = "";
});
