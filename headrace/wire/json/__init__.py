"""JSON as RapidJSON reads and prints it, which is how TensorFlow Serving does."""
