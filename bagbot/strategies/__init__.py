"""Complete example strategies, each in its own short file."""
