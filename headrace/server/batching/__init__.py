"""Requests that run together: adaptively, or by TensorFlow Serving's own sizes and times."""
