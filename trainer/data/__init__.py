"""What models learn from: archives, and the rows that come of them."""
