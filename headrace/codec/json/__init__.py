"""RapidJSON's way of reading and printing, where it differs from other JSON libraries."""
