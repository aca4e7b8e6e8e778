"""Every order and fill of an account; those from a snapshot stay bytes until somebody asks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, overload

import msgspec

from bagbot.domain.events import Fill
from bagbot.domain.instrument import Side
from bagbot.domain.order import Order, OrderStatus


class KeptOrder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An order as bytes, and beside them what lists are filtered by."""

    symbol: str
    status: OrderStatus
    body: bytes

    @classmethod
    def of(cls, order: Order) -> "KeptOrder":
        """Return the order as bytes."""
        return cls(order.intent.request.symbol, order.status, _ENCODER.encode(order))

    @property
    def order(self) -> Order:
        """The order itself."""
        return _DECODER.decode(self.body)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Order)


class Orders(Mapping[str, Order]):
    """Orders by our id, in the order in which they came."""

    def __init__(self, kept: Mapping[str, KeptOrder] | None = None) -> None:
        self._items: dict[str, Order | KeptOrder] = dict(kept or {})

    def __getitem__(self, order_id: str) -> Order:
        item = self._items[order_id]
        return item if isinstance(item, Order) else item.order

    def __setitem__(self, order_id: str, order: Order) -> None:
        self._items[order_id] = order

    def __contains__(self, order_id: object) -> bool:
        return order_id in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def newest_first(
        self,
        *,
        symbol: str | None = None,
        status: OrderStatus | None = None,
        after: str | None = None,
    ) -> Iterator[Order]:
        """Yield orders from the newest on, or from the one that came before `after`."""
        items = iter(reversed(self._items.items()))
        if after is not None:
            for order_id, _ in items:
                if order_id == after:
                    break
        for _, item in items:
            if isinstance(item, KeptOrder):
                has_symbol, has_status = item.symbol, item.status
            else:
                has_symbol, has_status = item.intent.request.symbol, item.status
            if symbol in (None, has_symbol) and status in (None, has_status):
                yield item if isinstance(item, Order) else item.order

    def symbol(self, order_id: str) -> str:
        """Return what an order trades."""
        item = self._items[order_id]
        return item.intent.request.symbol if isinstance(item, Order) else item.symbol

    def kept(self) -> Iterator[KeptOrder]:
        """Yield every order as bytes, in the order in which they came."""
        for item in self._items.values():
            yield KeptOrder.of(item) if isinstance(item, Order) else item


@dataclass(frozen=True, slots=True)
class BookedFill:
    """A fill with the order it belongs to, in the order of booking."""

    order_id: str
    symbol: str
    side: Side
    fill: Fill
    time_ns: int


FillPlace = tuple[str, str, int]
"""Where a fill is found (order id, trade id), and when it was booked (UTC ns)."""


class Fills(Sequence[BookedFill]):
    """Every fill in the order of booking: a list of places, the orders hold the fills."""

    def __init__(self, orders: Orders, places: Sequence[FillPlace] = ()) -> None:
        self._orders = orders
        self._places = list(places)

    def append(self, order_id: str, trade_id: str, time_ns: int) -> None:
        """Add a fill that its order has."""
        self._places.append((order_id, trade_id, time_ns))

    def symbol(self, place: int) -> str:
        """Return what was traded."""
        return self._orders.symbol(self._places[place][0])

    def places(self) -> Sequence[FillPlace]:
        """Return where all of them are found."""
        return self._places

    @overload
    def __getitem__(self, place: int) -> BookedFill: ...

    @overload
    def __getitem__(self, place: slice) -> list[BookedFill]: ...

    def __getitem__(self, place: int | slice) -> BookedFill | list[BookedFill]:
        if isinstance(place, slice):
            return [self._booked(one) for one in self._places[place]]
        return self._booked(self._places[place])

    def __len__(self) -> int:
        return len(self._places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _booked(self, place: FillPlace) -> BookedFill:
        order_id, trade_id, time_ns = place
        order = self._orders[order_id]
        request = order.intent.request
        return BookedFill(order_id, request.symbol, request.side, order.fills[trade_id], time_ns)
