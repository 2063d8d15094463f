"""TensorFlow Serving's vocabulary: messages, tensors, signatures, states, errors. No I/O."""
