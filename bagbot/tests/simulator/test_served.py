"""The table in docs/SIMULATOR.md: what is served, and which client has checked it.

It stands last of the modules that it is about. Where only some of them ran, what they checked must
be in the table; where all ran and passed, the table must be what they checked, no more and no
less. `make served` writes it.
"""

import os
from pathlib import Path

import pytest

import bagbot
from bagbot.tests.simulator import acceptance
from bagbot.tests.simulator.acceptance import HAS_PASSED, IS_WHOLE

DOCUMENT = Path(bagbot.__file__).parents[1] / "docs" / "SIMULATOR.md"
WANTS_TABLE = "BAGBOT_WRITE_SERVED"


def is_peer(item):
    """Return whether an item is a test of a third-party client; a doctest has no module."""
    return hasattr(getattr(item, "module", None), "PEER")


def have_all_peers_passed(session):
    """Return whether every test of every client has run and passed before this one."""
    items = [item for item in session.items if is_peer(item)]
    return (
        {item.path.name for item in items}
        == {p.name for p in Path(__file__).parent.glob("*_peer.py")}
        and session.config.stash.get(IS_WHOLE, True)
        and not any("::" in argument for argument in session.config.args)
        and all(item.stash.get(HAS_PASSED, False) for item in items)
    )


def test_the_table_is_what_the_clients_have_checked(request):
    checked = acceptance.checked_in_this_run(request.config)
    is_whole = have_all_peers_passed(request.session)
    if os.environ.get(WANTS_TABLE):
        assert is_whole, "the table is only written when every client's tests have passed"
        DOCUMENT.write_text(acceptance.with_table(DOCUMENT.read_text(), checked))
    document = DOCUMENT.read_text()
    if is_whole:
        assert acceptance.with_table(document, checked) == document, "run `make served`"
    told = acceptance.checked_by_table(document)
    surplus = {row: peers - told[row] for row, peers in checked.items() if peers - told[row]}
    assert surplus == {}, "run `make served`"


def test_everything_served_has_its_row_and_at_least_one_client():
    told = acceptance.checked_by_table(DOCUMENT.read_text())
    rows = [row for rows in acceptance.sections().values() for row in rows]
    assert list(told) == rows
    assert [row for row, peers in told.items() if not peers] == []


def test_nothing_is_assumed_of_what_is_not_in_the_table():
    rows = {row for rows in acceptance.sections().values() for row in rows}
    assert set(acceptance.ASSUMED) <= rows
    assert len(rows) == sum(len(rows) for rows in acceptance.sections().values())


@pytest.mark.parametrize(
    ("event", "row"),
    [
        ("btcusdt@depth", "<symbol>@depth"),
        ("btcusdt@depth@1000ms", "<symbol>@depth"),
        ("btcusdt@depth10@100ms", "<symbol>@depth<levels>@100ms"),
        ("btcusdt@kline_1M@+08:00", "<symbol>@kline_<interval>@+08:00"),
        ("executionReport", "executionReport"),
    ],
)
def test_an_event_is_of_one_row(event, row):
    assert acceptance.row_of_event(event) == row
