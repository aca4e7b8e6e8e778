"""bagbot turns a decision to trade into exactly one order, and can prove it."""

__version__ = "0.1.0"
