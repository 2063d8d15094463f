"""FastAPI around a SavedModel's signature, as its tutorials have it. `python fastapi_keras.py PORT
MODEL_FOLDER`"""

import sys

import tensorflow as tf
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

loaded = tf.saved_model.load(sys.argv[2])
signature = loaded.signatures["serving_default"]
app = FastAPI()


class Instances(BaseModel):
    instances: list[list[list[list[float]]]]


@app.post("/predict")
def predict(body: Instances) -> dict[str, list[list[float]]]:
    answer = signature(image=tf.constant(body.instances, tf.float32))
    return {"predictions": next(iter(answer.values())).numpy().tolist()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
