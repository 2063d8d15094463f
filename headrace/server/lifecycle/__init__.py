"""How versions come, are kept and go: folders on disk, loading, warm-up, swaps, reloads."""
