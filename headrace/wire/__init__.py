"""TF Serving's vocabulary: messages, tensors, JSON bodies, signatures, configs, errors. No
transport, no TensorFlow."""
