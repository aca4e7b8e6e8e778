import os
import threading
import time
from contextlib import closing

import pytest

from bagbot.domain.errors import StrategyError
from bagbot.trading.strategy import Strategy
from bagbot.trading.sweep_workers import StrategySource, by_processes, by_threads


class Still(Strategy):
    def on_bar(self):
        pass


def squares():
    return lambda places: [(place * place, os.getpid()) for place in places]


def fails_at_seven():
    def run(places):
        if 7 in places:
            raise StrategyError("seven")
        return [(place,) for place in places]

    return run


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def fails_oddly():
    def run(places):
        raise OddError("not to be sent", 2)

    return run


def dies():
    os._exit(3)


def slow():
    def run(places):
        time.sleep(0.01 * len(places))
        return [(place,) for place in places]

    return run


def rows(batches):
    with closing(batches):
        return dict(row for batch in batches for row in batch)


@pytest.mark.parametrize(("spread", "workers"), [(by_threads, 4), (by_processes, 2)])
def test_every_place_has_its_row_once(spread, workers):
    found = [row for batch in spread(iter(range(500)), squares, workers) for row in batch]
    assert sorted(place for place, _ in found) == list(range(500))
    assert all(row[0] == place * place for place, row in found)
    if spread is by_processes:
        assert len({row[1] for _, row in found} - {os.getpid()}) == workers


@pytest.mark.parametrize("spread", [by_threads, by_processes])
def test_nothing_to_do_is_done_at_once(spread):
    assert rows(spread(iter(()), squares, 2)) == {}


@pytest.mark.parametrize("spread", [by_threads, by_processes])
def test_what_a_run_raises_is_raised(spread):
    with pytest.raises(StrategyError, match="seven"):
        rows(spread(iter(range(20)), fails_at_seven, 2))


def test_an_error_that_cannot_be_sent_is_told():
    with pytest.raises(StrategyError, match="OddError: not to be sent"):
        rows(by_processes(iter(range(3)), fails_oddly, 1))


def test_a_process_that_dies_is_told():
    with pytest.raises(StrategyError, match=r"ended by itself \(exit code 3\)"):
        rows(by_processes(iter(range(3)), dies, 1))


def test_who_stops_reading_stops_the_threads():
    batches = by_threads(iter(range(10**6)), slow, 3)
    next(batches)
    batches.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("sweep-")]


def test_threads_that_run_ahead_wait_for_who_reads():
    taken = []

    def run(places):
        taken.extend(places)
        time.sleep(0.001 * len(places))
        return [(place,) for place in places]

    with closing(by_threads(iter(range(10**9)), lambda: run, 2)) as batches:
        next(batches)
        time.sleep(0.2)
    assert len(taken) < 10_000


def test_a_strategy_is_found_again_by_another_process():
    source = StrategySource.of(Still)
    assert source is not None
    assert source.load() is Still


def test_a_strategy_inside_a_function_is_not_to_be_had_elsewhere():
    class Inner(Strategy):
        pass

    assert StrategySource.of(Inner) is None
