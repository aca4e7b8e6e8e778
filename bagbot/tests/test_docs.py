"""Every block of the README and the docs runs, against a bagbot that really runs."""

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bagbot.simulator.accounts import accounts_from
from bagbot.simulator.market_conditions import conditions_from
from bagbot.simulator.symbol_settings import name_of, symbols_from
from bagbot.tests import draw_states
from bagbot.tests.running_bagbot import RunningBagbot

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RENDERED = {
    "{{ticker}}": "BTCUSDT",
    "{{interval}}": "5",
    "{{time}}": "2026-01-01T00:00:00Z",
    "{{timenow}}": "",
    "{{strategy.order.id}}": "Long",
    "{{strategy.order.action}}": "buy",
    "{{strategy.order.contracts}}": "0.001",
    "{{strategy.market_position}}": "long",
    "{{strategy.market_position_size}}": "0.001",
    "{{strategy.prev_market_position}}": "flat",
    "{{strategy.prev_market_position_size}}": "0",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    return [
        Block(
            page=str(page.relative_to(PROJECT)),
            line=text.count("\n", 0, match.start("code")),
            language=match["language"],
            code=match["code"],
            reason=match["reason"],
        )
        for page in PAGES
        for text in [page.read_text()]
        for match in FENCE.finditer(text)
        if match["language"] in {"python", "bash", "json"}
    ]


BLOCKS = blocks()
RUN = [block for block in BLOCKS if block.reason is None]


@pytest.fixture(scope="module")
def bagbot(tmp_path_factory: pytest.TempPathFactory):
    with RunningBagbot(tmp_path_factory.mktemp("home")) as running:
        yield running


def environment(bagbot: RunningBagbot) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BAGBOT_HOME": str(bagbot.home),
        "BINANCE_BASE_URL": bagbot.exchange_url,
        "BINANCE_API_KEY": bagbot.exchange_key,
        "BINANCE_API_SECRET": bagbot.exchange_secret,
        "PYTHONWARNINGS": "error",
    }


def test_blocks_are_found_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(
            f"\ndocs: {len(RUN)} blocks run, {len(BLOCKS) - len(RUN)} not: "
            + "; ".join(f"{b.name} ({b.reason})" for b in BLOCKS if b.reason)
            + "\n"
        )
    assert len(RUN) >= 20
    assert len(BLOCKS) - len(RUN) <= len(BLOCKS) // 3


@pytest.mark.parametrize(
    "block", [b for b in RUN if b.language == "python"], ids=lambda block: block.name
)
def test_python_block_runs(block: Block, bagbot: RunningBagbot, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(block.code)
    run([sys.executable, str(script)], block.name, tmp_path, environment(bagbot))


@pytest.mark.parametrize("page", sorted({b.page for b in RUN if b.language == "bash"}))
def test_bash_blocks_of_a_page_run_one_after_the_other(page: str, bagbot: RunningBagbot) -> None:
    code = ["set -euo pipefail"]
    for block in RUN:
        if block.page == page and block.language == "bash":
            code.append(f"echo '--- {block.name}'")
            code.append(block.code.replace("http://127.0.0.1:8000", bagbot.api_url))
    shown = run(["bash", "-c", "\n".join(code)], page, PROJECT, environment(bagbot))
    if page == "README.md":
        assert '"status":"accepted"' in shown
        assert '"rule": "max_order_value"' in shown


@pytest.mark.parametrize(
    "block", [b for b in RUN if b.language == "json"], ids=lambda block: block.name
)
def test_json_block_is_json_and_an_alert_is_taken(block: Block, bagbot: RunningBagbot) -> None:
    text = block.code
    for placeholder, value in RENDERED.items():
        text = text.replace(placeholder, value)
    content = json.loads(text)
    if isinstance(content, dict) and "secret" in content:
        content["secret"] = bagbot.webhook_secret
        if content.get("time") == "":
            content["time"] = f"2026-01-01T00:00:{next(_SECONDS):02d}Z"
        status, answer = bagbot.post("/webhooks/tradingview", content)
        assert (status, answer["status"]) == (200, "accepted") or status == 202, answer


_SECONDS = itertools.count(1)


def test_the_examples_of_settings_files_can_be_served(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "SIMULATOR.md").read_text()
    texts = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "exchange.toml"
    path.write_text("\n".join(texts))
    assert [account.name for account in accounts_from(path)] == ["alice", "bob"]
    served = [name_of(symbol) for symbol in symbols_from(path)]
    assert served == ["BTCUSDT", "XRPETH", "SOLEUR"]
    assert {condition.symbol for condition in conditions_from(path)} <= set(served)


def test_the_state_diagram_is_the_table() -> None:
    page = draw_states.PAGE.read_text()
    drawn = draw_states.BEGIN + page.partition(draw_states.BEGIN)[2].partition(draw_states.END)[0]
    assert drawn + draw_states.END == draw_states.drawn(), "run python -m bagbot.tests.draw_states"


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def run(command: list[str], name: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{name} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout
