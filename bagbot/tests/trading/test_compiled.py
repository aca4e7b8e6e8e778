"""Where machine code is kept, and that it is never of another version."""

import numpy
import pytest

from bagbot.domain import fills
from bagbot.trading import compiled


def test_compiled_code_is_kept_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.cache_folder() == tmp_path / "bagbot" / "compiled"
    assert compiled.cache_folder().is_dir()


def test_a_folder_that_can_not_be_written_is_told_once_and_replaced(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="can't be kept"):
        folder = compiled.cache_folder()
    # A second warning would be an error here.
    assert compiled.cache_folder() == folder
    compiled.write_file(folder / "module.py", "NAME = 1")
    assert (folder / "module.py").read_text() == "NAME = 1"


def test_the_version_changes_with_every_source(monkeypatch):
    sources = compiled._source
    versions = {compiled.version.__wrapped__()}
    for name in (*compiled._SOURCES, "bagbot.trading.kernel_tables"):
        monkeypatch.setattr(
            compiled,
            "_source",
            lambda other, name=name: sources(other) + ("# changed" if other == name else ""),
        )
        versions.add(compiled.version.__wrapped__())
    assert len(versions) == len(compiled._SOURCES) + 2


def test_what_is_copied_imports_its_own_kind(tmp_path):
    compiled._write(tmp_path / "copied", "copied")
    text = (tmp_path / "copied" / "kernel.py").read_text()
    assert "from copied import fills\n" in text
    assert "from copied import kernel_money as money\n" in text
    assert "from bagbot.trading import kernel_tables as tables\n" in text
    assert not any(
        f"from {name.rpartition('.')[0]} import {name.rpartition('.')[2]}\n" in text
        for name in compiled._SOURCES
    )


def test_the_compiled_statistics_are_called_from_python():
    trades = compiled.statistics().round_trips(
        numpy.zeros(
            0,
            [
                *((name, "<i8") for name in ("bar", "price", "lots", "fee_units")),
                *((name, "?") for name in ("is_buy", "fee_in_base")),
            ],
        ),
        fills.scale_of(1_000_000, 100_000),
    )
    assert len(trades) == 0
