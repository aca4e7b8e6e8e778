"""What clients that we did not write have called, as the simulator saw it, and the table of it.

Nobody declares what was checked: a row names a client when a test of that client passed and the
simulator, in that very test, carried the request out, sent the event or refused with the code.
"""

import re
from collections import defaultdict

import pytest

from bagbot.simulator.market_streams import SHUTDOWN
from bagbot.simulator.spot_api import REST_ENDPOINTS, WEBSOCKET_ENDPOINTS

BEGIN, END = "<!-- made by `make served`: begin -->", "<!-- made by `make served`: end -->"

STREAMS = {
    "<symbol>@trade": r"\w+@trade",
    "<symbol>@aggTrade": r"\w+@aggTrade",
    "<symbol>@kline_<interval>": r"\w+@kline_\w+",
    "<symbol>@kline_<interval>@+08:00": r"\w+@kline_\w+@\+08:00",
    "<symbol>@bookTicker": r"\w+@bookTicker",
    "<symbol>@ticker": r"\w+@ticker",
    "<symbol>@miniTicker": r"\w+@miniTicker",
    "!miniTicker@arr": r"!miniTicker@arr",
    "<symbol>@ticker_<window>": r"\w+@ticker_\w+",
    "!ticker_<window>@arr": r"!ticker_\w+@arr",
    "<symbol>@avgPrice": r"\w+@avgPrice",
    "<symbol>@depth": r"\w+@depth(@1000ms)?",
    "<symbol>@depth@100ms": r"\w+@depth@100ms",
    "<symbol>@depth<levels>": r"\w+@depth\d+(@1000ms)?",
    "<symbol>@depth<levels>@100ms": r"\w+@depth\d+@100ms",
    SHUTDOWN: re.escape(SHUTDOWN),
}
SESSION_METHODS = (
    "session.logon",
    "session.status",
    "session.logout",
    "session.subscriptions",
    "userDataStream.subscribe",
    "userDataStream.subscribe.signature",
    "userDataStream.unsubscribe",
)
USER_EVENTS = (
    "executionReport",
    "outboundAccountPosition",
    "balanceUpdate",
    "listStatus",
    "serverShutdown",
)
ADDRESSES = {
    "/api/v3/": "REST",
    "/ws": "raw streams, named in the address or by SUBSCRIBE",
    "/stream": "combined streams, named in the address or by SUBSCRIBE",
    "/stream/ws": "raw streams, at an address by which ccxt knows spot from futures",
    "/ws-api/v3": "the WebSocket API, and the user's events",
}
# Texts of one code differ; those of the tests are told.
ERRORS = {
    -1003: "Too much request weight used; … (429) / Way too much request weight used; … (418)",
    -1013: "Filter failure: …",
    -1015: "Too many new orders; … (429)",
    -1021: "Timestamp for this request is outside of the recvWindow. / … ahead of …",
    -1022: "Signature for this request is not valid.",
    -1100: "Illegal characters found in parameter '…'; …",
    -1102: "Mandatory parameter '…' was not sent, … / Param '…' or '…' must be sent, …",
    -1104: "Not all sent parameters were read; …",
    -1105: "Parameter '…' was empty.",
    -1106: "Parameter '…' sent when not required.",
    -1111: "Parameter '…' has too much precision.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1127: "More than 24 hours between startTime and endTime.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '…' is not valid.",
    -1131: "recvWindow must be less than 60000",
    -2010: "Account has insufficient balance … / Duplicate order sent. / Order would …",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid. (401)",
    -2015: "Invalid API-key, IP, or permissions for action. (401)",
    -2021: "Order cancel-replace partially failed. (409)",
    -2022: "Order cancel-replace failed.",
    -2035: "User Data Stream subscription already active.",
    -2036: "User Data Stream subscription not active.",
}
_SIZED_BY_RATES = "amounts are cut at 8 decimals"
ASSUMED = {
    "GET /api/v3/exchangeInfo": "filters as recorded in 2021, in the fields of 2026",
    "GET /api/v3/aggTrades": "every trade is an aggregate of its own",
    "trades.aggregate": "every trade is an aggregate of its own",
    "<symbol>@aggTrade": "every trade is an aggregate of its own",
    "GET /api/v3/uiKlines": "the same bars as klines",
    "uiKlines": "the same bars as klines",
    "GET /api/v3/account": _SIZED_BY_RATES,
    "POST /api/v3/order": f"{_SIZED_BY_RATES}; unknown parameters are always -1104",
    "DELETE /api/v3/openOrders": "-2011 when none is open",
    "GET /api/v3/orderList": "the text of -2013 for a list",
    "executionReport": "a stop that goes live is a second NEW with `w: true`",
    "error -2014": "the HTTP status 401",
    "error -2015": "the HTTP status 401",
    "error -1013": "which filters answer this, and which -2010",
    "error -1131": "the text",
    "error -1003": "the ban comes after ten refusals in a minute, for two minutes at first",
}


HAS_PASSED = pytest.StashKey[bool]()
IS_WHOLE = pytest.StashKey[bool]()
_KEPT = pytest.StashKey[defaultdict[str, set[str]]]()


def checked_in_this_run(config):
    """Return which clients have checked which rows so far, to be read and added to."""
    return config.stash.setdefault(_KEPT, defaultdict(set))


def note(config, peer, server):
    """Note what `peer` has made a running simulator do, in a test that has passed."""
    for row in rows_of(server):
        checked_in_this_run(config)[row].add(peer)


def rows_of(server):
    """Return the rows of all that a simulator has carried out, sent and refused."""
    rows = set(server.sockets_opened)
    rows |= {row_of_event(event) for event in server.events_sent}
    for request in server.requests:
        if request.outcome == "refused" and request.code in ERRORS:
            rows.add(f"error {request.code}")
        elif request.outcome == "done" and request.method == "WS":
            rows.add(request.path)
        elif request.outcome == "done":
            rows |= {"/api/v3/", f"{request.method} {request.path}"}
    return rows


def row_of_event(event):
    """Return the row of a stream's name or of a kind of the user's event."""
    if event in USER_EVENTS:
        return event
    (row,) = [row for row, pattern in STREAMS.items() if re.fullmatch(pattern, event)]
    return row


def sections():
    """Return the title of each part of the table, and its rows with what they mean."""
    return {
        "Addresses, all on one port": ADDRESSES,
        "REST": dict.fromkeys((f"{method} {path}" for method, path in REST_ENDPOINTS), "yes"),
        "WebSocket API": dict.fromkeys((*WEBSOCKET_ENDPOINTS, *SESSION_METHODS), "yes"),
        "Streams, raw and combined": dict.fromkeys(STREAMS, "yes"),
        "The user's events": dict.fromkeys(USER_EVENTS, "yes"),
        "Refusals": {f"error {code}": text for code, text in ERRORS.items()},
    }


def table(checked):
    """Return the table, in Markdown, of what is served and who has checked it."""
    lines = [BEGIN]
    for title, rows in sections().items():
        lines += ["", f"| {title} | served | checked by | assumed |", "|---|---|---|---|"]
        for row, served in rows.items():
            peers = ", ".join(sorted(checked.get(row, ())))
            lines.append(f"| `{row}` | {served} | {peers} | {ASSUMED.get(row, '')} |")
    return "\n".join([*lines, "", END])


def checked_by_table(document):
    """Return which clients have checked which rows, as a document's table has it."""
    checked = {}
    for line in document[document.index(BEGIN) : document.index(END)].splitlines():
        if line.startswith("| `"):
            row, _, peers, _ = (cell.strip() for cell in line[1:-1].split(" | "))
            checked[row.strip("` ")] = {peer for peer in peers.split(", ") if peer}
    return checked


def with_table(document, checked):
    """Return a document with its table made anew."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + table(checked) + tail
