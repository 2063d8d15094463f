"""The gRPC door: TensorFlow Serving's services over our own messages."""
