"""The floor: a bare ASGI app that reads a predict body, checks it with the shared codec, and
answers fixed bytes.

Run as `python -m benchmarks.bare PORT [unread]`, on the gateway's uvicorn settings; "unread" looks
at nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.codec import predict
from headrace.protocol import dtypes
from headrace.protocol.signatures import Signature, TensorSpec, check

MNIST = Signature(
    name="serving_default",
    inputs={"image": TensorSpec("image", "image:0", dtypes.FLOAT, (-1, 28, 28, 1), 1)},
    outputs={"probabilities": TensorSpec("probabilities", "p:0", dtypes.FLOAT, (-1, 10), 1)},
)
ANSWER = b'{\n    "predictions": [[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]\n    ]\n}'
CHECKED = "unread" not in sys.argv
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"".join(chunks)
    if body and CHECKED:
        tensors = predict.parse_predict(body).tensors(MNIST)
        check(MNIST, tensors.shapes(MNIST), row_format=tensors.row_format)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
