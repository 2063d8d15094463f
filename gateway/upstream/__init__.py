"""The way to the serving backend."""
