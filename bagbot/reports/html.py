"""The frame of a page that needs nothing but itself: styles, scripts and data all inside.

Whatever comes from outside (names, parameters, reasons) reaches the page through `text` or
`data_script`, which no markup in it survives.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import numpy
from numpy.typing import NDArray

_ASSETS: Final = files("bagbot.reports") / "assets"
# Nothing is fetched, from anywhere: even a mistake of ours could not call home.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
)


def document(*, title: str, body: str, data: Mapping[str, object], scripts: Sequence[str]) -> str:
    """Return a whole page; `scripts` are assets, run in order after the chart library.

    `body` is markup and must hold outside text only through `text`. The scripts find `data` by
    `readData()`.
    """
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    assert "</script" not in library.lower(), "the chart library would end its own script"
    code = "\n".join(_asset(name) for name in scripts)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(title)}</title>",
            f"<style>\n{_asset('report.css')}</style>",
            f"<script>{_asset('theme.js')}</script>",
            "</head>",
            "<body>",
            body,
            data_script(data),
            f"<script>{library}</script>",
            f"<script>{code}</script>",
            "</body>",
            "</html>",
            "",
        )
    )


def text(value: object) -> str:
    """Return a value as text that can stand in markup and in quoted attributes."""
    return html.escape(str(value), quote=True)


def top_bar(what: str) -> str:
    """Return the line above everything, with the switch of colours."""
    return (
        f'<div class="bar"><span><b>bagbot</b> {text(what)}</span>'
        '<button type="button" id="theme" aria-label="colours">Auto</button></div>'
    )


def card(title: str, content: str, *, note: str = "", tools: str = "", name: str = "") -> str:
    """Return a part of the page; all but the title is markup."""
    return (
        f'<section class="card"{f" id={name}" if name else ""}><div class="head">'
        f"<h2>{text(title)}</h2>{note}{tools}</div>{content}</section>"
    )


def plain_table(rows: Sequence[tuple[str, str]], *, is_code: bool = False) -> str:
    """Return a table of names and what they are."""

    def cell(value: str) -> str:
        return f"<code>{text(value)}</code>" if is_code else text(value)

    lines = "".join(f"<tr><td>{text(name)}</td><td>{cell(value)}</td></tr>" for name, value in rows)
    return f'<table class="plain"><tbody>{lines}</tbody></table>'


def data_script(data: Mapping[str, object]) -> str:
    """Return the element that carries data to the scripts; nothing in it can end the element."""
    written = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="data">{written}</script>'


def packed(column: NDArray[Any]) -> dict[str, str]:
    """Return a column as its raw bytes in base64, with its type in words that JavaScript knows.

    Integers take the smallest type that holds them; those beyond 32 bits become floats (exact up
    to 2^53). A page with 100,000 trades stays small, and is read without parsing.
    """
    if column.dtype.kind == "b":
        column = column.astype(numpy.int8)
    elif column.dtype.kind == "i":
        column = column.astype(_smallest(column))
    else:
        column = column.astype(numpy.float64)
    little = column.astype(column.dtype.newbyteorder("<"))
    return {"type": column.dtype.name, "bytes": base64.b64encode(little.tobytes()).decode()}


def _smallest(column: NDArray[Any]) -> type[Any]:
    if len(column) == 0:
        return numpy.int8
    least, most = int(column.min()), int(column.max())
    for kind in (numpy.int8, numpy.int16, numpy.int32):
        bounds = numpy.iinfo(kind)
        if bounds.min <= least and most <= bounds.max:
            return kind
    return numpy.float64


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
