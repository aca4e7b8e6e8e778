"""What a person sees while bagbot runs: a table that lives, or plain lines when piped."""

import contextlib
import itertools
import sys
import time
from decimal import Decimal
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bagbot.app import System
from bagbot.domain.order import Order
from bagbot.log_lines import configure_logging
from bagbot.trading.journal_records import Entry

ROWS_MAX: Final = 15
AVERAGE_SHOWN: Final = Decimal("0.00000001")


class LiveView:
    """The view of one run. As a context manager it also owns where log lines go."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._orders: dict[str, Order] = {}
        self._live: Live | None = None
        self._title = "bagbot"

    def __enter__(self) -> Self:
        configure_logging(self._print_log)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def ready(self, system: System) -> None:
        """Say that it runs, how to send the first alert, and show orders from now on."""
        say = self._say
        say(f"bagbot is ready. account: {system.account}, API: {system.api_url}")
        say(f"exchange: {system.exchange_url}")
        say("A token for the API: bagbot token create --scope read --scope trade")
        say("Send the first alert from another terminal:")
        say(first_alert(system))
        newest = itertools.islice(system.executor.state.orders.newest_first(), ROWS_MAX)
        self._orders.update({order.id: order for order in reversed(list(newest))})
        system.executor.listen(self._show)
        if self._console.is_terminal:
            self._title = f"bagbot · {system.account} · Ctrl-C stops"
            # Drawn by a thread a few times a second: drawing takes milliseconds, and no order
            # may wait for them.
            self._live = Live(
                get_renderable=self._table, console=self._console, refresh_per_second=4
            )
            self._live.start()

    def _show(self, order: Order, entry: Entry) -> None:
        before = self._orders.pop(order.id, None)
        self._orders[order.id] = order
        if before is order:
            return  # Several facts that came at once were shown with the first.
        while len(self._orders) > ROWS_MAX:
            del self._orders[next(iter(self._orders))]
        if self._live is None:
            self._say(line_of(order))

    def _table(self) -> Table:
        table = Table(title=self._title, expand=True)
        for name in ("order", "what", "status", "filled", "average", "why"):
            table.add_column(name, overflow="fold")
        for order in tuple(self._orders.values()):
            table.add_row(*_cells(order))
        return table

    def _say(self, line: str) -> None:
        # Not through the console: a line to be pasted must not be wrapped. And nobody has to read.
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._console.file, flush=True)

    def _print_log(self, line: str) -> None:
        if self._live is not None:
            self._console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def first_alert(system: System) -> str:
    """Return a command that sends an alert, in one line that works when pasted."""
    alert_id = time.strftime("first-%Y%m%d-%H%M%S", time.gmtime())
    return (
        f"curl -sS -X POST {system.api_url}/webhooks/tradingview "
        f"-H 'Content-Type: application/json' "
        f'-d \'{{"secret":"{system.webhook_secret}","id":"{alert_id}",'
        f'"action":"buy","ticker":"BTCUSDT","amount":"0.001"}}\''
    )


def line_of(order: Order) -> str:
    """Return one plain line that says how an order stands."""
    order_id, what, status, filled, average, why = _cells(order)
    traded = f"{filled} at {average}" if average else ""
    return "  ".join(cell for cell in (order_id, what, status, traded, why) if cell)


def _cells(order: Order) -> tuple[str, str, str, str, str, str]:
    request, average = order.intent.request, order.average
    price = "" if request.price is None else f" at {_plain(request.price)}"
    if request.trigger_price is not None:
        price += f" once at {_plain(request.trigger_price)}"
    if request.trailing_delta is not None:
        price += f" trailing by {request.trailing_delta} bp"
    return (
        order.id,
        f"{request.side} {_plain(request.amount)} {request.symbol} {request.type}{price}",
        order.status.value,
        _plain(order.filled) if order.filled else "",
        "" if average is None else _plain(average.quantize(AVERAGE_SHOWN)),
        order.reason or order.intent.note,
    )


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
