"""The pure core: no await, no clock, no I/O, no logging; money is Decimal."""
