"""What the live models promise, and the documents made of it."""
