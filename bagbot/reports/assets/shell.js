"use strict";
// What every page of bagbot needs: its data, its colours, words for figures, sortable tables.

function readData() {
  return JSON.parse(document.getElementById("data").textContent);
}

const COLUMN_TYPES = { int8: Int8Array, int16: Int16Array, int32: Int32Array, float64: Float64Array };

/** Return a column that Python packed as base64 of its raw bytes. */
function unpacked(column) {
  const text = atob(column.bytes);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new COLUMN_TYPES[column.type](bytes.buffer);
}

function unpackedAll(columns) {
  return Object.fromEntries(Object.entries(columns).map(([name, c]) => [name, unpacked(c)]));
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function faded(name, share) {
  const sign = colour(name);
  const parts = [1, 3, 5].map((i) => parseInt(sign.slice(i, i + 2), 16));
  return `rgba(${parts.join(",")},${share})`;
}

const IS_TOUCHED = matchMedia("(pointer: coarse)").matches;
const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false, doubleClick: false };

/** Return what all charts share; axes are Plotly's, by name. */
function layout(axes, more) {
  const filled = Object.fromEntries(Object.entries(axes).map(([name, axis]) => [name, {
    gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, automargin: true,
    spikecolor: colour("soft"), spikethickness: 1, spikedash: "dot",
    showspikes: name.startsWith("x"), spikemode: "across", spikesnap: "hovered data",
    fixedrange: IS_TOUCHED || name.startsWith("y"), tickfont: { color: colour("soft") }, ...axis,
  }]));
  return {
    paper_bgcolor: colour("card"), plot_bgcolor: colour("card"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "x unified",
    // A finger on a chart scrolls the page; there are buttons for the range.
    dragmode: IS_TOUCHED ? false : "zoom",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    ...filled, ...more,
  };
}

const MINUS = "\u2212", ABSENT = "\u2013";

function number(value, digits, plus) {
  if (value === null || Number.isNaN(value)) return ABSENT;
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : `${MINUS}\u221e`;
  const text = Math.abs(value).toLocaleString("en-US",
    { minimumFractionDigits: digits, maximumFractionDigits: digits });
  if (!/[1-9]/.test(text)) return text;
  return (value < 0 ? MINUS : plus ? "+" : "") + text;
}

/** Return words as the charts show them: they take some markup, and names are none. */
const plainly = (words) => words.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);

const counted = (count, what) => `${number(count, 0)} ${what}${count === 1 ? "" : "s"}`;

function percent(share, plus) {
  const text = number(100 * share, Math.abs(share) < 10 ? 2 : 0, plus);
  return text === ABSENT ? text : `${text}%`;
}

function moment(ms, interval_ms) {
  const text = new Date(ms).toISOString();
  const day = text.slice(0, 10);
  if (interval_ms % 86400000 === 0) return day;
  return `${day} ${text.slice(11, interval_ms % 60000 === 0 ? 16 : 19)}`;
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * Fill a table that is sorted by its heads and turned in pages.
 * columns: {title, value(row) to sort by, text(row), kind: "word"|"signed"|""}; rows: how many.
 */
function sortableTable(table, columns, rows, { perPage = 50, sortBy = 0, descending = false, onRow } = {}) {
  const order = Int32Array.from({ length: rows }, (_, i) => i);
  const head = element("tr"), body = element("tbody"), pager = element("div", { className: "pager" });
  let page = 0;
  const pages = Math.max(1, Math.ceil(rows / perPage));

  function sort() {
    const value = columns[sortBy].value, sign = descending ? -1 : 1;
    order.sort((a, b) => {
      const left = value(a), right = value(b);
      // What has no value comes last, either way; equals stay as they happened.
      const isLeftAbsent = left !== left || left === null, isRightAbsent = right !== right || right === null;
      if (isLeftAbsent || isRightAbsent) return isLeftAbsent - isRightAbsent || a - b;
      return left < right ? -sign : left > right ? sign : a - b;
    });
  }
  function draw() {
    head.querySelectorAll("th").forEach((cell, i) => {
      cell.setAttribute("aria-sort", i === sortBy ? (descending ? "descending" : "ascending") : "none");
    });
    body.replaceChildren(...Array.from(order.subarray(page * perPage, (page + 1) * perPage), (row) => {
      const line = element("tr", {}, ...columns.map(({ kind, value, text }) => {
        const tone = kind === "signed" ? (value(row) > 0 ? "up" : value(row) < 0 ? "down" : "") : kind || "";
        return element("td", { className: tone, textContent: text(row) });
      }));
      if (onRow) {
        line.tabIndex = 0;
        line.onclick = () => onRow(row);
        line.onkeydown = ({ key }) => { if (key === "Enter") onRow(row); };
      }
      return line;
    }));
    place.textContent = rows === 0 ? "none" : `${number(page * perPage + 1, 0)} to `
      + `${number(Math.min(rows, (page + 1) * perPage), 0)} of ${number(rows, 0)}`;
    first.disabled = back.disabled = page === 0;
    on.disabled = last.disabled = page >= pages - 1;
  }
  const turn = (to) => () => { page = Math.min(pages - 1, Math.max(0, to())); draw(); };
  const step = (label, name, to) => element("button",
    { type: "button", textContent: label, ariaLabel: name, onclick: turn(to) });
  const first = step("«", "first page", () => 0), back = step("‹", "page before", () => page - 1);
  const on = step("›", "next page", () => page + 1), last = step("»", "last page", () => pages - 1);
  const place = element("span");
  columns.forEach(({ title, kind }, i) => {
    const button = element("button", { type: "button", textContent: title, onclick: () => {
      descending = i === sortBy ? !descending : kind !== "word" && i !== 0;
      sortBy = i; page = 0; sort(); draw();
    } });
    head.append(element("th", { className: kind === "word" ? "word" : "", scope: "col" }, button));
  });
  table.replaceChildren(element("thead", {}, head), body);
  if (pages > 1) {
    pager.append(first, back, place, on, last);
    table.closest(".scroll").after(pager);
  }
  sort(); draw();
}

/** Redraw with `draw` when the colours change, by the button or by the system. */
function followTheme(draw) {
  const button = document.getElementById("theme");
  const label = () => { button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[document.documentElement.dataset.choice]; };
  button.onclick = () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.choice) + 1) % THEMES.length];
    try { localStorage.setItem("bagbot-theme", next); } catch { /* A page from a file may have no storage. */ }
    applyTheme(next); label(); draw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    applyTheme(document.documentElement.dataset.choice); draw();
  });
  label();
}
