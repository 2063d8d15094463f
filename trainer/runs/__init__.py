"""A training while it runs, and what is kept of it."""
