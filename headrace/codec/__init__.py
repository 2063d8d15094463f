"""JSON and binary bodies to named arrays and back, as TensorFlow Serving reads and writes them."""
