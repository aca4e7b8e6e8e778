"""The command line: parse, call, print. No logic lives here."""


def main() -> None:
    """Run the command line."""
