"""BentoML around a SavedModel's signature, which MODEL_FOLDER names: `bentoml serve
bentoml_service:Digits`"""

import os

import bentoml
import numpy as np


@bentoml.service(workers=1)
class Digits:
    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf
        self.loaded = tf.saved_model.load(os.environ["MODEL_FOLDER"])
        self.signature = self.loaded.signatures["serving_default"]

    @bentoml.api
    def predict(self, instances: np.ndarray) -> np.ndarray:
        answer = self.signature(image=self.tf.constant(instances, self.tf.float32))
        return next(iter(answer.values())).numpy()
