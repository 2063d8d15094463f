"""A model that does next to nothing to a 224x224x3 picture; its bytes are the work. Run with the
folder to write."""

from __future__ import annotations

import sys


def export(folder: str) -> None:
    import tensorflow as tf

    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32, name="image")])
        def __call__(self, image):  # type: ignore[no-untyped-def]
            return {"mean": tf.reduce_mean(image, axis=[1, 2])}

    module = Mean()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.__call__})


if __name__ == "__main__":
    export(sys.argv[1])
