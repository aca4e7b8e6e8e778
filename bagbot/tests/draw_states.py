"""Draw the state diagram of docs/TRADING_ARCHITECTURE.md from the state machine's own table.

`python -m bagbot.tests.draw_states` writes it into the page; a test compares the two.
"""

from pathlib import Path

from bagbot.domain.order import FINAL, TRANSITIONS, OrderStatus

PAGE = Path(__file__).parents[2] / "docs" / "TRADING_ARCHITECTURE.md"
AFTER_PENDING = (OrderStatus.REFUSED, OrderStatus.WITHDRAWN, OrderStatus.SUBMITTED)
BEGIN, END = "<!-- drawn from the table: begin -->", "<!-- drawn from the table: end -->"


def diagram(*, late: bool) -> str:
    """Return a diagram in Mermaid's language: one arrow a pair of statuses, all of its events.

    `late`: what facts do to an order that had ended already; otherwise, to one under way. From
    PENDING only what comes next is drawn: the journal never holds anything else there.
    """
    arrows: dict[tuple[OrderStatus, OrderStatus], list[str]] = {}
    for status, row in TRANSITIONS.items():
        if (status in FINAL) is not late:
            continue
        for kind, after in row.items():
            is_next = status is not OrderStatus.PENDING or after in AFTER_PENDING
            if after is not None and after is not status and is_next:
                arrows.setdefault((status, after), []).append(kind.value.lower())
    lines = ["stateDiagram-v2"] if late else ["stateDiagram-v2", "    [*] --> PENDING"]
    for (before, after), kinds in arrows.items():
        lines.append(f"    {before.value} --> {after.value}: {', '.join(kinds)}")
    return "\n".join(lines)


def table() -> str:
    """Return the table in Markdown; a dash is a contradiction, which raises."""
    kinds = list(next(iter(TRANSITIONS.values())))
    lines = ["| | " + " | ".join(kind.value.lower().replace("_", " ") for kind in kinds) + " |"]
    lines.append("|---" * (len(kinds) + 1) + "|")
    for status, row in TRANSITIONS.items():
        cells = [
            "✗" if after is None else "·" if after is status else after.value
            for after in row.values()
        ]
        lines.append(f"| **{status.value}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def drawn() -> str:
    """Return the part of the page between the two marks."""
    usual, late = diagram(late=False), diagram(late=True)
    return (
        f"{BEGIN}\n\nAn order under way:\n\n```mermaid\n{usual}\n```\n\n"
        f"What a late fact does to an order that had ended:\n\n```mermaid\n{late}\n```\n\n"
        f"The whole table (· stays as it is, ✗ is a contradiction and raises):\n\n"
        f"{table()}\n\n{END}"
    )


def main() -> None:
    """Write the drawing into the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + drawn() + after)


if __name__ == "__main__":
    main()
