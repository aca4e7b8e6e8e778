"use strict";
// The heat map, the spread and the table of a sweep.

const sweep = readData();
const parameters = unpackedAll(sweep.parameters), metrics = unpackedAll(sweep.metrics);
const names = Object.keys(parameters);
const rows = parameters[names[0]].length;
const VALUES_MOST = 60, BINS = 40;

const chosen = (id) => document.getElementById(id).value;
const isShare = (name) => ["share", "change"].includes(sweep.figures[name].kind);
const written = (name, value) => (isShare(name) ? percent(value, sweep.figures[name].kind === "change")
  : number(value, ["count", "bars"].includes(sweep.figures[name].kind) ? 0 : 2));
const writtenParameter = (name, value) => (sweep.flags.includes(name) ? (value ? "yes" : "no")
  : String(Number(value.toPrecision(8))));

/** Return a parameter's places on an axis: its values, or bins when there are too many. */
function places(name) {
  const column = parameters[name];
  const values = Float64Array.from(new Set(column)).sort();
  if (values.length <= VALUES_MOST) {
    const index = new Map(Array.from(values, (value, i) => [value, i]));
    return { labels: Array.from(values, (value) => writtenParameter(name, value)), of: (row) => index.get(column[row]) };
  }
  const least = values[0], size = (values[values.length - 1] - least) / BINS;
  return {
    labels: Array.from({ length: BINS }, (_, i) => String(Number((least + (i + 0.5) * size).toPrecision(4)))),
    of: (row) => Math.min(BINS - 1, Math.floor((column[row] - least) / size)),
  };
}

const GATHERINGS = {
  best: (values, sign) => values.reduce((a, b) => (sign * b > sign * a ? b : a)),
  worst: (values, sign) => values.reduce((a, b) => (sign * b < sign * a ? b : a)),
  median: (values) => {
    const sorted = Float64Array.from(values).sort(), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  },
};

/** Draw a figure over the only parameter there is. */
function drawLine() {
  const name = chosen("metric"), column = metrics[name], sign = sweep.lower_is_better.includes(name) ? -1 : 1;
  const across = places(names[0]), cells = across.labels.map(() => []);
  for (let row = 0; row < rows; row++) if (!Number.isNaN(column[row])) cells[across.of(row)].push(column[row]);
  const gather = GATHERINGS[chosen("gather")];
  const y = cells.map((values) => (values.length ? gather(values, sign) : null));
  Plotly.react("map", [{ type: "scatter", mode: "lines+markers", x: sweep.flags.includes(names[0]) ? across.labels : across.labels.map(Number), y,
    text: y.map((value) => (value === null ? "" : written(name, value))), hovertemplate: "%{text}<extra></extra>",
    line: { color: colour("accent"), width: 2 }, marker: { size: 6 } }],
  layout({ xaxis: { title: { text: plainly(names[0]) } }, yaxis: { tickformat: isShare(name) ? ".0%" : ",~g" } }, {}), CONFIG);
}

function drawMap() {
  if (names.length === 1) return drawLine();
  const name = chosen("metric"), column = metrics[name], sign = sweep.lower_is_better.includes(name) ? -1 : 1;
  const across = places(chosen("across")), up = places(chosen("up"));
  const cells = up.labels.map(() => across.labels.map(() => []));
  for (let row = 0; row < rows; row++) {
    if (Number.isNaN(column[row])) continue;
    cells[up.of(row)][across.of(row)].push(column[row]);
  }
  const gather = GATHERINGS[chosen("gather")];
  const z = cells.map((line) => line.map((values) => (values.length ? gather(values, sign) : null)));
  const hover = cells.map((line, y) => line.map((values, x) => values.length
    ? `${plainly(chosen("across"))} ${across.labels[x]}, ${plainly(chosen("up"))} ${up.labels[y]}<br><b>${written(name, z[y][x])}</b>`
      + (values.length > 1 ? `<br>${chosen("gather")} of ${number(values.length, 0)}` : "")
    : ""));
  const finite = z.flat().filter((value) => value !== null && Number.isFinite(value));
  // All but the outermost cells set the scale, or one of them would leave the rest in one shade.
  const sorted = Float64Array.from(finite).sort();
  const least = sorted[Math.floor(0.02 * (sorted.length - 1))], most = sorted[Math.ceil(0.98 * (sorted.length - 1))];
  const isAroundZero = least < 0 && most > 0 && sign > 0;
  // Not at full strength, so that figures can be read on it in both colours of the page.
  const good = faded("up", 0.7), bad = faded("down", 0.7), middle = colour("grid");
  const scale = isAroundZero ? [[0, bad], [0.5, middle], [1, good]]
    : sign > 0 ? [[0, faded("accent", 0.04)], [1, faded("accent", 0.75)]] : [[0, faded("down", 0.04)], [1, bad]];
  const reach = Math.max(-least, most);
  const few = document.getElementById("map").clientWidth / across.labels.length > 64 && up.labels.length <= 24;
  Plotly.react("map", [{
    type: "heatmap", x: across.labels, y: up.labels, z, text: hover, hoverinfo: "text", xgap: 1, ygap: 1,
    colorscale: scale, zmin: isAroundZero ? -reach : least, zmax: isAroundZero ? reach : most,
    colorbar: { thickness: 10, outlinewidth: 0, tickformat: isShare(name) ? ".0%" : reach < 1000 ? "~g" : "~s", tickfont: { color: colour("soft") } },
  }], layout({
    xaxis: { type: "category", title: { text: plainly(chosen("across")) }, showgrid: false, fixedrange: true },
    yaxis: { type: "category", title: { text: plainly(chosen("up")) }, showgrid: false },
  }, {
    hovermode: "closest",
    // By index: a label that looks like a number would be taken for a place on the axis.
    annotations: few ? z.flatMap((line, y) => line.map((value, x) => ({
      x, y, text: value === null ? "" : written(name, value),
      showarrow: false, font: { size: 11, color: colour("ink") } }))) : [],
  }), CONFIG);
}

function drawSpread() {
  const name = chosen("metric");
  const finite = Array.from(metrics[name]).filter(Number.isFinite);
  Plotly.react("spread", [{ type: "histogram", x: finite, nbinsx: 60,
    marker: { color: faded("accent", 0.75) }, hovertemplate: "%{y} combinations<extra>%{x}</extra>" }],
  layout({ xaxis: { tickformat: isShare(name) ? ".1~%" : "~g" }, yaxis: { nticks: 5 } },
    { hovermode: "closest", bargap: 0.05 }), CONFIG);
}

function fillTable() {
  const parameter = (name) => ({ title: name, value: (row) => parameters[name][row],
    text: (row) => writtenParameter(name, parameters[name][row]) });
  const metric = (name) => ({ title: sweep.figures[name].title, value: (row) => metrics[name][row],
    text: (row) => written(name, metrics[name][row]), kind: sweep.figures[name].kind === "change" ? "signed" : "" });
  sortableTable(document.getElementById("combinations"),
    [...names.map(parameter), ...Object.keys(metrics).map(metric)], rows, {
      sortBy: names.length + Object.keys(metrics).indexOf(sweep.sort_by),
      descending: !sweep.lower_is_better.includes(sweep.sort_by) });
}

function drawAll() { drawMap(); drawSpread(); }

drawAll();
fillTable();
followTheme(drawAll);
for (const id of ["metric", "across", "up", "gather"].filter((id) => document.getElementById(id))) {
  document.getElementById(id).onchange = (event) => {
    // One parameter can't be both axes: the other one takes the place that came free.
    const other = { across: "up", up: "across" }[id];
    if (other && names.length > 1 && chosen(other) === event.target.value) {
      document.getElementById(other).value = names.find((name) => name !== event.target.value);
    }
    drawAll();
  };
}
document.documentElement.dataset.ready = "yes";
