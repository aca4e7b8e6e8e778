"""Market data on disk: a catalogue of bars, what is wrong with them, and how more is fetched."""
