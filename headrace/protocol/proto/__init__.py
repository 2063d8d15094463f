"""Fields and numbers of TensorFlow's, TensorFlow Serving's and gRPC's public messages."""
