"""LitServe around a SavedModel's signature, as its README has it. `python litserve_api.py PORT
MODEL_FOLDER`"""

import sys
from typing import Any

import litserve


class Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:
        import tensorflow as tf

        self.tf = tf
        self.loaded = tf.saved_model.load(sys.argv[2])
        self.signature = self.loaded.signatures["serving_default"]

    def decode_request(self, request: dict[str, Any]) -> Any:
        return self.tf.constant(request["instances"], self.tf.float32)

    def predict(self, image: Any) -> Any:
        return next(iter(self.signature(image=image).values())).numpy()

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu")
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning"
    )
