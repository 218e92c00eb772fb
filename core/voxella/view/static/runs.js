// The page "Runs": stages, curves that grow while a run trains, and metrics, run beside run.
import {$, ask, make, seconds, shown, trying} from "./page.js";

const EVERY = 3000; // ms between looks at the logs
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 420, HEIGHT = 220, LEFT = 52, RIGHT = 10, TOP = 10, BOTTOM = 30;
// Charts in this order; the rest of the log follows. Each holds scalars that share an axis.
const CHARTS = [
  ["Loss, training and validation", ["loss/reconstruction", "validation/reconstruction"], true],
  ["Training loss, total", ["loss/total"], true],
  ["Class head, loss", ["loss/class"], true],
  ["Class head, accuracy in training", ["class_head/accuracy"], false],
  ["Learning rate", ["lr"], false],
  ["Gradient norm before clipping", ["grad_norm"], true],
  ["Cases a second", ["cases_per_second"], false],
  ["Peak memory, GiB", ["memory_gib"], false],
];

const svg = (tag, attributes, ...children) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

function chart(title, series, logarithmic) {
  const points = series.flatMap((one) => one.points);
  const usable = logarithmic && points.every(([, y]) => y > 0);
  const scale = usable ? Math.log10 : (y) => y;
  const [x0, x1] = range(points.map(([x]) => x));
  const [y0, y1] = range(points.map(([, y]) => scale(y)));
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((scale(y) - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const told = series.map((one) => `${one.name} from ${shown(one.points[0][1])} to ${shown(one.points.at(-1)[1])}`);
  const drawing = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${told.join("; ")}`});
  for (const y of [y0, (y0 + y1) / 2, y1]) {
    const at = HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
    drawing.append(svg("line", {x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at, class: "grid"}),
      svg("text", {x: LEFT - 6, y: at + 4, "text-anchor": "end"}, shown(usable ? 10 ** y : y)));
  }
  for (const [x, anchor] of [[x0, "start"], [x1, "end"]]) {
    drawing.append(svg("text", {x: px(x), y: HEIGHT - 10, "text-anchor": anchor}, `step ${Math.round(x)}`));
  }
  series.forEach((one) => drawing.append(one.points.length === 1 ?
    svg("circle", {cx: px(one.points[0][0]), cy: py(one.points[0][1]), r: 4, class: `dot line-${one.tone}`}) :
    svg("polyline", {points: one.points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" "),
      class: `line line-${one.tone}${one.dashed ? " dashed" : ""}`})));
  const legend = make("ul", {class: "legend"}, ...series.map((one) => {
    const key = svg("svg", {viewBox: "0 0 24 8", class: "key", "aria-hidden": "true"},
      svg("line", {x1: 0, x2: 24, y1: 4, y2: 4, class: `line line-${one.tone}${one.dashed ? " dashed" : ""}`}));
    return make("li", {}, key, ` ${one.name}: ${shown(one.points.at(-1)[1])}`);
  }));
  return make("figure", {class: "card"}, make("figcaption", {}, title + (usable ? ", log scale" : "")), drawing, legend);
}

function range(values) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= Math.abs(low) || 1; high += Math.abs(high) || 1; }
  return [low, high];
}

function curves(runs, logs) {
  const rest = [...new Set(logs.flatMap((log) => Object.keys(log)))]
    .filter((name) => !CHARTS.some(([, own]) => own.includes(name))).map((name) => [name, [name], false]);
  const charts = [...CHARTS, ...rest].map(([title, names, logarithmic]) => {
    const series = logs.flatMap((log, run) => names.filter((name) => log[name]?.length).map((name) => ({
      name: [runs.length > 1 ? runs[run].name : "", names.length > 1 ? name.split("/")[0].replace("loss", "training") : ""]
        .filter(Boolean).join(", ") || title.toLowerCase(),
      points: log[name], tone: run % 6, dashed: name.startsWith("validation/"),
    })));
    return series.length ? chart(title, series, logarithmic) : null;
  }).filter(Boolean);
  $("#curves").replaceChildren(...(charts.length ? charts : [make("p", {class: "faint"}, "Nothing was trained yet.")]));
}

const STATES = {done: "good", begun: "warn", "not done": "faint"};

function stages(runs) {
  const names = runs.find((run) => run.stages.length)?.stages.map((stage) => stage.name) ?? [];
  $("#stages").replaceChildren(
    make("caption", {class: "visually-hidden"}, "Stages of each run"),
    make("thead", {}, make("tr", {}, ...["run", ...names, "steps", ""].map((name) => make("th", {scope: "col"}, name)))),
    make("tbody", {}, ...runs.map((run) => make("tr", {}, make("th", {scope: "row"}, run.name),
      ...(run.problem ? [make("td", {class: "bad", colspan: String(names.length + 2)}, run.problem)] : [
        ...run.stages.map((stage) => make("td", {class: STATES[stage.state]},
          stage.seconds === null ? stage.state : `${stage.state}, ${seconds(stage.seconds)}`)),
        make("td", {}, run.step === null ? "" : `${run.step} of ${run.steps}`),
        make("td", {}, run.tensorboard ? make("code", {}, run.tensorboard) : ""),
      ])))));
}

function metrics(runs) {
  const known = new Map();
  runs.forEach((run, at) => run.metrics.forEach((one) => {
    if (!known.has(one.key)) known.set(one.key, {...one, cells: {}});
    known.get(one.key).cells[at] = one;
  }));
  const rows = [...known.values()];
  if (!rows.length) {
    $("#metrics").replaceChildren(make("tbody", {}, make("tr", {}, make("td", {class: "faint"}, "Nothing was measured yet."))));
    return;
  }
  let group = null;
  const body = rows.flatMap((row) => {
    const head = row.group !== group ? [make("tr", {}, make("th", {colspan: String(runs.length + 1), scope: "colgroup"}, row.group))] : [];
    group = row.group;
    const better = row.better ? ` (${row.better} is better)` : "";
    return [...head, make("tr", {}, make("th", {scope: "row", class: "plain"}, row.label + better),
      ...runs.map((_, at) => make("td", {class: "number"}, cell(row.cells[at]))))];
  });
  $("#metrics").replaceChildren(make("caption", {class: "visually-hidden"}, "Metrics of each run, with intervals"),
    make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "metric"),
      ...runs.map((run) => make("th", {scope: "col", class: "number"}, run.name)))), make("tbody", {}, ...body));
}

function cell(one) {
  if (!one) return "";
  const interval = one.low === null || one.low === undefined ? "" : ` (${shown(one.low)} to ${shown(one.high)})`;
  const baseline = one.baseline === null || one.baseline === undefined ? "" : `, real ${shown(one.baseline)}`;
  return `${shown(one.value)}${interval}${baseline}`;
}

let before = "";
async function look() {
  const runs = await ask("/api/runs");
  const logs = await Promise.all(runs.map((run, at) => (run.problem ? {} : ask(`/api/runs/${at}/log`))));
  const now = JSON.stringify([runs, logs]);
  if (now !== before) { stages(runs); curves(runs, logs); metrics(runs); }
  before = now;
  $("#updated").textContent = `looked at ${new Date().toLocaleTimeString()}`;
}

await trying(async () => {
  await look();
  document.body.dataset.ready = "";
});
setInterval(() => { if ($("#live").checked && !document.hidden) trying(look); }, EVERY);
