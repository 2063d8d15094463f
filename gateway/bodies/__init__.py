"""Request and answer bodies: how they are read, and those that are not JSON."""
