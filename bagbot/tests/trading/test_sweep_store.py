import numpy
import pytest

from bagbot.domain.errors import ConfigError, DataError
from bagbot.trading.sweep_store import SweepStore

ROW = numpy.dtype([("fast", "<i8"), ("is_short", "?"), ("sharpe", "<f8"), ("hash", "<u8")])
ABOUT = {"strategy": "Cross", "data": "abc", "settings": {"cash": "1000"}}
LENGTH = 40


def row(place):
    return (place, place % 2 == 0, place / 7, 2**64 - 1 - place)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sweep"


def filled(path, places):
    store = SweepStore(path, ABOUT, ROW, LENGTH)
    for place in places:
        store.write(place, row(place))
    store.close()
    return store


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_written_is_in_its_place(path, kept):
    store = filled(path if kept else None, [3, 39, 0])
    assert numpy.flatnonzero(store.is_done).tolist() == [0, 3, 39]
    assert [store.table[place].item() for place in (0, 3, 39)] == [row(0), row(3), row(39)]
    assert store.table.dtype.names == ROW.names


def test_it_is_there_again_in_another_process(path):
    filled(path, [3, 39])
    store = SweepStore(path, ABOUT, ROW, LENGTH)
    assert numpy.flatnonzero(store.is_done).tolist() == [3, 39]
    store.write(5, row(5))
    assert store.table[5].item() == row(5)
    assert store.table[39].item() == row(39)
    store.close()


def test_a_row_that_a_crash_cut_off_was_never_written(path):
    filled(path, range(LENGTH))
    content = path.read_bytes()
    size = (len(content) - 4096) // LENGTH
    for at in range(4096 + 7 * size, 4096 + 8 * size):
        damaged = bytearray(content)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        store = SweepStore(path, ABOUT, ROW, LENGTH)
        assert numpy.flatnonzero(~store.is_done).tolist() == [7]
        store.close()


@pytest.mark.parametrize("size", [0, 5, 15, 20, 30, 100, 4095, 4096, 4097])
def test_a_file_cut_off_before_its_first_row_begins_anew(path, size):
    filled(path, [1])
    path.write_bytes(path.read_bytes()[:size])
    store = SweepStore(path, ABOUT, ROW, LENGTH)
    assert not store.is_done.any()
    store.write(2, row(2))
    store.close()
    store = SweepStore(path, ABOUT, ROW, LENGTH)
    assert numpy.flatnonzero(store.is_done).tolist() == [2]
    store.close()


@pytest.mark.parametrize(
    ("about", "kind", "length", "told"),
    [
        ({**ABOUT, "data": "abd"}, ROW, LENGTH, "data"),
        ({**ABOUT, "settings": {"cash": "1001"}, "new": 1}, ROW, LENGTH, "new, settings"),
        (ABOUT, ROW, LENGTH + 1, "rows"),
        (ABOUT, numpy.dtype([("fast", "<f8")]), LENGTH, "columns"),
    ],
)
def test_another_sweeps_file_is_not_touched_and_told_apart(path, about, kind, length, told):
    filled(path, [1])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"it differs in {told};"):
        SweepStore(path, about, kind, length)
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_not_touched(path):
    path.write_text("my thesis")
    with pytest.raises(ConfigError, match="is not a sweep's file"):
        SweepStore(path, ABOUT, ROW, LENGTH)
    assert path.read_text() == "my thesis"


def test_only_one_sweep_writes(path):
    store = SweepStore(path, ABOUT, ROW, LENGTH)
    with pytest.raises(ConfigError, match="belongs to a sweep that is running"):
        SweepStore(path, ABOUT, ROW, LENGTH)
    store.close()
    SweepStore(path, ABOUT, ROW, LENGTH).close()


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be used"):
        SweepStore(tmp_path / "missing" / "sweep", ABOUT, ROW, LENGTH)


def test_nobody_writes_to_the_table(path):
    for store in (filled(path, [1]), filled(None, [1])):
        with pytest.raises(ValueError, match="read-only"):
            store.table["fast"][0] = 1
