"""The store from the writing side: versions come whole, are made live, and go."""
