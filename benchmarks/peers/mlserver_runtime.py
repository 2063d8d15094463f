"""MLServer around a SavedModel's signature: `mlserver start FOLDER` finds it by the
model-settings.json there."""

import os

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    async def load(self) -> bool:
        import tensorflow as tf

        self.tf = tf
        self.loaded = tf.saved_model.load(os.environ["MODEL_FOLDER"])
        self.signature = self.loaded.signatures["serving_default"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        image = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        answer = next(iter(self.signature(image=self.tf.constant(image)).values())).numpy()
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("predictions", answer)]
        )
