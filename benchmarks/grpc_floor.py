"""The floor of gRPC: a bare echo of Predict's kind that also runs one session.

Run as `python -m benchmarks.grpc_floor PORT MODEL_FOLDER`. Bytes in, the same fixed bytes out, on
the synchronous server with threads that `headrace serve` uses; nothing is parsed.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np

from benchmarks.floor import Session
from headrace.protocol import messages, tensors

THREADS = 8


def main(port: int, folder: Path) -> None:
    session, image = Session(folder), np.zeros(784, np.float32)
    answer = messages.PredictResponse()
    answer.outputs["probabilities"].CopyFrom(tensors.to_proto(session.run(image)))
    fixed = bytes(answer.SerializeToString())

    def predict(request: bytes, context: grpc.ServicerContext) -> bytes:
        session.run(image)
        return fixed

    server = grpc.server(ThreadPoolExecutor(THREADS))
    handlers = {messages.PREDICT.name: grpc.unary_unary_rpc_method_handler(predict)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(messages.PREDICT.service, handlers),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
