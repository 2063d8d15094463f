"""The JSON bodies of TensorFlow Serving's REST calls, both ways."""
