"use strict";
// The charts and the table of one backtest.

const DAY = 86400000;
const HOVER_TIME = "%-d %b %Y %H:%M";
const run = readData();
const candles = unpackedAll(run.candles), curve = unpackedAll(run.curve);
const fills = unpackedAll(run.fills), trades = unpackedAll(run.trades);
const price = (ticks) => ticks * run.tick[0] / run.tick[1];
const writtenPrice = (ticks) => number(price(ticks), run.price_decimals);
const writtenAmount = (amount) => number(amount, run.amount_decimals);
const began = candles.time[0];
const ended = candles.time[candles.time.length - 1] + run.interval_ms * run.bars_per_candle;

// Equity and drawdown.

/** Make a button switch a chart between plain and logarithmic prices or money. */
function logSwitch(id, draw) {
  const button = document.getElementById(id);
  button.onclick = () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    draw();
  };
}
const moneyAxis = (id) => document.getElementById(id).getAttribute("aria-pressed") === "true"
  ? { type: "log", tickformat: "~s", dtick: "D2" } : { type: "linear", tickformat: ",~f", nticks: 7, dtick: null };

function drawEquity() {
  const time = Array.from(curve.time, (ms) => new Date(ms).toISOString());
  const line = (y, name, sign, width, more) => ({
    type: "scatter", mode: "lines", x: time, y, name, line: { color: sign, width }, ...more });
  const money = `%{y:,.2f} ${plainly(run.quote)}`;
  const traces = [
    line(curve.held, "Holding", colour("held"), 1.3, { hovertemplate: money }),
    line(curve.equity, plainly(run.strategy), colour("accent"), 2, { hovertemplate: money }),
    line(curve.held_fall, "Holding's drawdown", colour("held"), 1, { yaxis: "y2", hovertemplate: "%{y:.1%}" }),
    line(curve.fall, "Drawdown", colour("down"), 1.3,
      { yaxis: "y2", fill: "tozeroy", fillcolor: faded("down", 0.18), hovertemplate: "%{y:.1%}" }),
  ];
  Plotly.react("equity", traces, layout({
    xaxis: { type: "date", anchor: "y2", hoverformat: HOVER_TIME },
    yaxis: { domain: [0.36, 1], ...moneyAxis("equity-log") },
    yaxis2: { domain: [0, 0.28], tickformat: ".0%", nticks: 4 },
  }, { hoversubplots: "axis" }), CONFIG);
}

// Price and trades: as many candles as can be told apart, worked out anew for what is in view.

const MARKS_MOST = 1200, LINES_MOST = 400;
let view = [began, ended];

/** Return the first index whose value is `least` or more. */
function firstFrom(column, least) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < least) low = middle + 1; else high = middle;
  }
  return low;
}

function candlesInView() {
  const width = document.getElementById("price").clientWidth || 800;
  const first = Math.max(0, firstFrom(candles.time, view[0]) - 1);
  const last = Math.min(candles.time.length, firstFrom(candles.time, view[1]) + 1);
  const size = Math.max(1, Math.ceil((last - first) / Math.max(80, width / 3.5)));
  const shown = { time: [], open: [], high: [], low: [], close: [] };
  // Groups begin at multiples of their size, so that moving the view does not reshuffle them.
  for (let from = first - (first % size); from < last; from += size) {
    const to = Math.min(from + size, candles.time.length);
    let high = candles.high[from], low = candles.low[from];
    for (let i = from + 1; i < to; i++) {
      high = Math.max(high, candles.high[i]); low = Math.min(low, candles.low[i]);
    }
    shown.time.push(candles.time[from]);
    shown.open.push(price(candles.open[from])); shown.high.push(price(high));
    shown.low.push(price(low)); shown.close.push(price(candles.close[to - 1]));
  }
  return { ...shown, size };
}

/** Return the marks of one side: one per fill, or one per candle that counts its fills. */
function marksInView(isBuy, shown) {
  const marks = { x: [], y: [], text: [], size: [] };
  const side = isBuy ? "Buy" : "Sell";
  const first = firstFrom(fills.time, view[0]), last = firstFrom(fills.time, view[1]);
  let count = 0;
  for (let i = first; i < last; i++) count += fills.is_buy[i] === +isBuy;
  if (count <= MARKS_MOST) {
    for (let i = first; i < last; i++) {
      if (fills.is_buy[i] !== +isBuy) continue;
      marks.x.push(fills.time[i]); marks.y.push(price(fills.price[i])); marks.size.push(10);
      marks.text.push(`${side} ${writtenAmount(fills.amount[i])} at ${writtenPrice(fills.price[i])}`
        + (fills.is_maker[i] ? ", maker" : ", taker"));
    }
    return { ...marks, count };
  }
  const groups = new Map();
  for (let i = first; i < last; i++) {
    if (fills.is_buy[i] !== +isBuy) continue;
    const at = Math.max(0, firstFrom(shown.time, fills.time[i] + 1) - 1);
    const group = groups.get(at) || { fills: 0, ticks: 0 };
    group.fills += 1; group.ticks += fills.price[i];
    groups.set(at, group);
  }
  for (const [at, group] of groups) {
    // Beside the candle, which hundreds of marks would hide.
    marks.x.push(shown.time[at]); marks.y.push(isBuy ? shown.low[at] : shown.high[at]);
    marks.size.push(Math.min(10, 5 + Math.log2(group.fills)));
    marks.text.push(`${number(group.fills, 0)} ${side.toLowerCase()}s, on average at ${writtenPrice(group.ticks / group.fills)}`);
  }
  return { ...marks, count };
}

function linesInView() {
  const won = { x: [], y: [] }, lost = { x: [], y: [] };
  let count = 0;
  for (let i = 0; i < trades.entry_time.length; i++) {
    if (trades.exit_time[i] < view[0] || trades.entry_time[i] > view[1]) continue;
    if (++count > LINES_MOST) return [];
    const line = trades.profit[i] > 0 ? won : lost;
    line.x.push(trades.entry_time[i], trades.exit_time[i], null);
    line.y.push(price(trades.entry_price[i]), price(trades.exit_price[i]), null);
  }
  return [[won, "up"], [lost, "down"]].map(([line, sign]) => ({
    type: "scatter", mode: "lines", ...line, hoverinfo: "skip",
    line: { color: colour(sign), width: 1.4, dash: "dot" } }));
}

function drawPrice() {
  const shown = candlesInView();
  const mark = (marks, symbol, sign) => ({
    type: "scatter", mode: "markers", x: marks.x, y: marks.y, text: marks.text,
    hovertemplate: "%{text}<extra></extra>",
    marker: { symbol, size: marks.size, color: colour(sign), line: { width: 1, color: colour("card") } } });
  const buys = marksInView(true, shown), sells = marksInView(false, shown);
  const traces = [{
    type: "candlestick", x: shown.time, open: shown.open, high: shown.high, low: shown.low,
    close: shown.close, name: plainly(run.symbol),
    increasing: { line: { color: faded("up", 0.75), width: 1 }, fillcolor: faded("up", 0.45) },
    decreasing: { line: { color: faded("down", 0.75), width: 1 }, fillcolor: faded("down", 0.45) },
  }, ...linesInView(), mark(buys, "triangle-up", "accent"), mark(sells, "triangle-down", "sell")];
  Plotly.react("price", traces, layout({
    xaxis: { type: "date", hoverformat: HOVER_TIME, range: view.map((ms) => new Date(ms).toISOString()), rangeslider: { visible: false } },
    yaxis: { autorange: true, ...moneyAxis("price-log") },
  }), CONFIG);
  const perCandle = shown.size * run.bars_per_candle;
  document.getElementById("price-note").textContent =
    `${counted(buys.count, "buy")} and ${counted(sells.count, "sell")} in view`
    + (perCandle > 1 ? `, ${number(perCandle, 0)} bars to a candle` : "");
  document.querySelectorAll("#ranges button[data-days]").forEach((button) => {
    const span = button.dataset.days === "all" ? ended - began : button.dataset.days * DAY;
    button.setAttribute("aria-pressed", Math.abs(view[1] - view[0] - span) < run.interval_ms);
  });
}

function show(from, to) {
  const least = 20 * run.interval_ms;
  if (to - from < least) { const middle = (from + to) / 2; from = middle - least / 2; to = middle + least / 2; }
  const span = Math.min(to - from, ended - began);
  from = Math.min(Math.max(from, began), ended - span);
  view = [from, from + span];
  drawPrice();
}

function wirePrice() {
  const chart = document.getElementById("price"), ranges = document.getElementById("ranges");
  const asTime = (value) => typeof value === "number" ? value : Date.parse(`${value.replace(" ", "T")}Z`);
  chart.on("plotly_relayout", (change) => {
    if (change["xaxis.range[0]"] !== undefined) show(asTime(change["xaxis.range[0]"]), asTime(change["xaxis.range[1]"]));
  });
  chart.on("plotly_doubleclick", () => show(began, ended));
  ranges.onclick = ({ target }) => {
    const { days, move } = target.dataset, span = view[1] - view[0];
    if (days === "all") show(began, ended);
    else if (days) show((view[0] + view[1]) / 2 - days * DAY / 2, (view[0] + view[1]) / 2 + days * DAY / 2);
    else if (move) show(view[0] + move * span * 0.8, view[1] + move * span * 0.8);
  };
  ranges.querySelectorAll("button[data-days]").forEach((button) => {
    const days = button.dataset.days;
    button.hidden = days !== "all" && (days * DAY >= ended - began || days * DAY < 20 * run.interval_ms);
  });
}

// Trades.

function drawSpread() {
  const place = document.getElementById("spread");
  if (trades.gain.length === 0) { place.textContent = "No trade was closed."; place.style.height = "auto"; return; }
  // The middle 98 of 100 set the scale, or one outlier would leave a single bar.
  const sorted = Float64Array.from(trades.gain).sort();
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const least = Math.min(at(0.01), 0), most = Math.max(at(0.99), 0), size = Math.max((most - least) / 40, 1e-7);
  // Bins begin at zero, so that none holds both winners and losers.
  const bins = { start: Math.floor(least / size) * size, end: Math.ceil(most / size) * size, size };
  const cut = (gain) => Math.min(bins.end - size / 2, Math.max(bins.start + size / 2, gain));
  const bars = (x, name, sign) => ({ type: "histogram", x, xbins: bins, autobinx: false, name,
    marker: { color: faded(sign, 0.75) }, hovertemplate: "%{y} trades<extra>%{x}</extra>" });
  const gains = Array.from(trades.gain);
  Plotly.react("spread", [
    bars(gains.filter((gain) => gain < 0).map(cut), "lost", "down"),
    bars(gains.filter((gain) => gain >= 0).map(cut), "won", "up"),
  ], layout({ xaxis: { tickformat: ".2~%", nticks: 8 }, yaxis: { nticks: 5 } },
    { barmode: "overlay", bargap: 0.06, hovermode: "closest" }), CONFIG);
}

function fillTable() {
  const column = (title, name, text, kind = "") => ({ title, kind, value: (row) => trades[name][row], text });
  const when = (name) => (row) => moment(trades[name][row], run.interval_ms);
  sortableTable(document.getElementById("trades"), [
    column("Entry", "entry_time", when("entry_time")),
    column("Side", "is_long", (row) => (trades.is_long[row] ? "Long" : "Short"), "word"),
    column("Amount", "amount", (row) => writtenAmount(trades.amount[row])),
    column("At", "entry_price", (row) => writtenPrice(trades.entry_price[row])),
    column("Exit", "exit_time", when("exit_time")),
    column("At", "exit_price", (row) => writtenPrice(trades.exit_price[row])),
    column("Bars", "bars", (row) => number(trades.bars[row], 0)),
    column("Fees", "fees", (row) => number(trades.fees[row], 2)),
    column("Profit", "profit", (row) => number(trades.profit[row], 2, true), "signed"),
    column("Return", "gain", (row) => percent(trades.gain[row], true), "signed"),
  ], trades.entry_time.length, { onRow: (row) => {
    const margin = Math.max(20 * run.interval_ms, 0.6 * (trades.exit_time[row] - trades.entry_time[row]));
    show(trades.entry_time[row] - margin, trades.exit_time[row] + margin);
    document.getElementById("price-card").scrollIntoView();
  } });
}

function drawAll() { drawEquity(); drawPrice(); drawSpread(); }

drawAll();
wirePrice();
fillTable();
followTheme(drawAll);
logSwitch("equity-log", drawEquity);
logSwitch("price-log", drawPrice);
document.documentElement.dataset.ready = "yes";
