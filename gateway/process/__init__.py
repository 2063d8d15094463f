"""The gateway as processes: doors opened and drained, workers, and the look ahead of a start."""
