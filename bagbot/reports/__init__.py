"""What a backtest did, as a page, as a summary on the terminal, and as JSON."""
