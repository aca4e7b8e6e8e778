"""The page of the fill rules says what the code does, to the tick and the unit."""

import re

import pytest

from bagbot.domain import fills
from bagbot.tests.domain.fill_rules_page import PAGE, all_examples, examples, numbers, play

EXAMPLES = examples()
MONEY = {"scale", "settle", "moves", "fits", "not_fits"}


def is_about_money(example):
    return {line.split()[0] for line in example.lines} <= MONEY


BARS = [example for example in EXAMPLES if not is_about_money(example)]
SUMS = [example for example in EXAMPLES if is_about_money(example)]


@pytest.mark.parametrize("example", BARS, ids=lambda example: example.title)
def test_orders_fill_as_the_page_says(example):
    happened, expected = play(example)
    assert expected
    assert happened == expected


@pytest.mark.parametrize("example", SUMS, ids=lambda example: example.title)
def test_money_moves_as_the_page_says(example):
    scale = moved = None
    for line in example.lines:
        name, *words = line.split()
        if name == "scale":
            scale = fills.scale_of(**numbers(words))
        elif name == "settle":
            settle = getattr(fills, f"settle_{words[0]}")
            moved = settle(scale=scale, **numbers(words))
        elif name == "moves":
            assert moved._asdict() == {f"{k}_units": v for k, v in numbers(words).items()}
        else:
            assert fills.fits(scale=scale, **numbers(words)) is (name == "fits")


def test_every_block_of_the_page_is_played_and_every_price_rule_has_one():
    text = PAGE.read_text()
    examples_ = all_examples()
    assert len(examples_) == text.count("```text")
    rules = set(re.findall(r"\*\*(F\d+) ", text))
    assert rules == {f"F{number}" for number in range(1, 29)}
    # These are told in words: their examples stand with other rules, or are no fill.
    told = {"F10", "F18", "F19", "F22", "F23"}
    assert rules - {example.rule for example in examples_} == told
