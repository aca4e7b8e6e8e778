"""Trading: connectors, the risk manager, the order executor."""
