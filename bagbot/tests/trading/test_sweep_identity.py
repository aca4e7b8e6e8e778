import importlib.util
import sys
from decimal import Decimal

import numpy
import pytest

from bagbot.domain.errors import ConfigError
from bagbot.domain.fills import Costs
from bagbot.trading.sweep_identity import source_hash, text_of

HELPER = "FACTOR = {factor}\n\n\ndef scaled(values):\n    return values * FACTOR\n"
STRATEGY = """
import numpy

from {helper} import scaled

from bagbot.trading.strategy import Strategy


class Mine(Strategy):
    fast: int = 10

    def prepare(self):
        self.average = scaled(self.close)

    def on_bar(self):
        self.{act}(1.0)
"""


@pytest.fixture
def strategy_of(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ["helper_of_mine", "mine"]

    def made(factor=1, act="buy"):
        for name in names:
            sys.modules.pop(name, None)
        (tmp_path / "helper_of_mine.py").write_text(HELPER.format(factor=factor))
        path = tmp_path / "mine.py"
        path.write_text(STRATEGY.format(helper="helper_of_mine", act=act))
        # Written twice within a second and with one length, it would come from the byte code.
        sys.dont_write_bytecode = True
        spec = importlib.util.spec_from_file_location("mine", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["mine"] = module
        spec.loader.exec_module(module)
        return module.Mine

    before = sys.dont_write_bytecode
    yield made
    sys.dont_write_bytecode = before
    for name in names:
        sys.modules.pop(name, None)


def test_the_same_source_has_the_same_hash(strategy_of):
    assert source_hash(strategy_of()) == source_hash(strategy_of())


def test_another_decision_is_another_source(strategy_of):
    assert source_hash(strategy_of()) != source_hash(strategy_of(act="sell"))


def test_what_the_strategy_imports_is_part_of_its_source(strategy_of):
    assert source_hash(strategy_of()) != source_hash(strategy_of(factor=2))


def test_a_strategy_without_a_file_counts_by_its_code():
    def typed(text):
        names = {"__name__": "__prompt__"}
        exec(text, names)
        return names["Mine"]

    head = "from bagbot.trading.strategy import Strategy\nclass Mine(Strategy):\n"
    one = "    def on_bar(self):\n        self.buy(1.0)\n"
    two = "    def on_bar(self):\n        self.buy(2.0)\n"
    assert source_hash(typed(head + one)) == source_hash(typed(head + one))
    assert source_hash(typed(head + one)) != source_hash(typed(head + two))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (True, 1),
        (Decimal("1.0"), Decimal("1.00")),
        (Costs(), Costs(taker_fee_ppm=999)),
        (numpy.arange(2_000), numpy.arange(2_000) // 1_000 * 1_000),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ([1], [[1]]),
        (None, "None"),
        (range(5), range(6)),
    ],
)
def test_other_settings_have_another_text(one, other):
    assert text_of(one) == text_of(one)
    assert text_of(one) != text_of(other)


def test_a_set_has_one_text_whatever_its_order():
    assert text_of({"a", "b", "c"}) == text_of({"c", "b", "a"})


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ConfigError, match=r"cannot tell whether .* stays the same"):
        text_of({"hook": print})
