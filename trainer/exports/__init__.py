"""What a training leaves, and what proves that it is fit to be served."""
