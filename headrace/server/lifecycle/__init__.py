"""The life of versions: discovery on disk, loading, warm-up, swaps and reloads."""
