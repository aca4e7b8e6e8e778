"""The examples run as they are, and the promised names are there."""

import subprocess
import sys
from pathlib import Path

import pytest

import bagbot

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


def test_every_promised_name_is_there() -> None:
    for name in bagbot.__all__:
        assert getattr(bagbot, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        bagbot.Nothing  # noqa: B018 - looking it up is the test.


def test_importing_bagbot_loads_nothing_else() -> None:
    code = "import sys, bagbot; print([m for m in sys.modules if m.startswith('bagbot.')])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"
