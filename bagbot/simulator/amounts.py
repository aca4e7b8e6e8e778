"""Money inside the simulator: whole numbers of 1e-8, text only at the edge.

Binance prints every price, quantity and balance with eight decimals, so 1e-8 of an asset (or of
a price) is the smallest amount there is. Products are rounded in one stated direction:
what a trade costs is rounded down, what an order locks is rounded up.
"""

from decimal import Decimal

ONE = 100_000_000
_DECIMALS = 8
_PARTS_PER_MILLION = 1_000_000


def amount_text(amount: int) -> str:
    """Return `amount` as Binance prints it, with eight decimals.

    >>> amount_text(6_183_763_000_000)
    '61837.63000000'
    """
    if not amount:
        return "0.00000000"
    if amount < 0:
        return "-" + amount_text(-amount)
    return f"{amount // ONE}.{amount % ONE:08d}"


def amount_from_text(text: str) -> int:
    """Return a number such as "61837.63" in units of 1e-8.

    Raises ValueError for anything else, a sign and an exponent included, and for more than eight
    decimals: nothing is rounded silently.

    >>> amount_from_text("61837.63")
    6183763000000
    """
    whole, _, fraction = text.partition(".")
    digits = fraction.rstrip("0")
    if len(digits) > _DECIMALS:
        raise ValueError(f"{text} has more than {_DECIMALS} decimals")
    if not (whole.isascii() and whole.isdigit() and (digits + "0").isascii()):
        raise ValueError(f"{text!r} is not a number")
    return int(whole) * ONE + int(digits.ljust(_DECIMALS, "0"))


def amount_from_decimal(value: Decimal) -> int:
    """Return `value`, which is not negative, in units of 1e-8. Raises ValueError."""
    return amount_from_text(f"{value:f}")


def quote_amount(*, price: int, quantity: int) -> int:
    """Return what `quantity` costs at `price`, rounded down: both sides move the same amount."""
    return price * quantity // ONE


def quote_amount_ceiling(*, price: int, quantity: int) -> int:
    """Return what an order may cost at most, rounded up: a lock never falls short of its fills."""
    return -(-price * quantity // ONE)


def commission_amount(received: int, rate_ppm: int) -> int:
    """Return the fee on what was `received`, rounded down to 1e-8."""
    return received * rate_ppm // _PARTS_PER_MILLION


def nearest_multiple(amount: int, step: int) -> int:
    """Return the multiple of `step` nearest to `amount`; halves go up."""
    return (amount + step // 2) // step * step
