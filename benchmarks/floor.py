"""The floor of serving: a bare ASGI app on uvicorn that decodes one image, runs one session, and
words the answer.

Run as `python -m benchmarks.floor PORT MODEL_FOLDER`. It checks nothing, names nothing and counts
nothing: whatever `headrace serve` takes beyond it is the price of being a server.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import simdjson

from headrace.server.engines import capi
from headrace.server.engines.options import CALLERS_THREAD, run_options
from headrace.server.engines.tensorflow import TensorFlowEngine

_FLOAT = 1  # TensorFlow's number of the dtype


class Session:
    """mnist_cnn as plain calls of TensorFlow's C API: a tensor in, one run in the caller's thread,
    a tensor out."""

    def __init__(self, folder: Path) -> None:
        self._lib = capi.library()
        self._model = TensorFlowEngine().load(
            folder
        )  # finds the graph's ends; runs none of what follows
        signature = self._model.signatures["serving_default"]
        ((self._input,), (self._output,)) = signature.inputs.values(), signature.outputs.values()
        self._options = run_options(inter_op_pool=CALLERS_THREAD)
        self._feed, self._fetch = (
            self._end(spec.tensor_name) for spec in (self._input, self._output)
        )

    def run(self, flat: np.ndarray) -> np.ndarray:
        lib = self._lib
        shape = (ctypes.c_int64 * 4)(flat.size // 784, 28, 28, 1)
        fed = (ctypes.c_void_p * 1)(lib.TF_AllocateTensor(_FLOAT, shape, 4, flat.nbytes))
        fetched = (ctypes.c_void_p * 1)()
        ctypes.memmove(lib.TF_TensorData(fed[0]), flat.ctypes.data, flat.nbytes)
        options = capi.buffer_over(self._options)
        with capi.checked() as status:
            lib.TF_SessionRun(
                *(self._model._session, ctypes.byref(options), self._feed, fed, 1),
                *(self._fetch, fetched, 1, None, 0, None, status),
            )
        answer = np.empty((flat.size // 784, 10), np.float32)
        ctypes.memmove(answer.ctypes.data, lib.TF_TensorData(fetched[0]), answer.nbytes)
        lib.TF_DeleteTensor(fed[0])
        lib.TF_DeleteTensor(fetched[0])
        return answer

    def _end(self, tensor_name: str) -> ctypes.Array[capi.Output]:
        name, _, index = tensor_name.partition(":")
        operation = self._lib.TF_GraphOperationByName(self._model._graph, name.encode())
        return (capi.Output * 1)(capi.Output(operation, int(index)))


def create_app(folder: Path) -> Callable[..., Awaitable[None]]:
    session, parser = Session(folder), simdjson.Parser()

    async def app(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        answer = b"{}"
        if body:
            root: Any = parser.parse(body)
            flat = np.frombuffer(root["instances"].as_buffer(of_type="d"), np.float64).astype(
                np.float32
            )
            del root
            answer = json.dumps({"predictions": session.run(flat).tolist()}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        create_app(Path(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
