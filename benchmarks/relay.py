"""The floors of forwarding: relays that look at nothing.

`python -m benchmarks.relay grpc PORT TARGET` passes gRPC calls on as bytes, with the gateway's own
kind of server and channel. `python -m benchmarks.relay http PORT HOST:PORT` passes HTTP bodies on
over the gateway's own pool.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import uvicorn
import uvloop

from gateway.upstream.address import Address
from gateway.upstream.http1 import Pool
from headrace.http.protocol import HttpProtocol
from headrace.protocol import messages

_UNBOUND = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def grpc_relay(port: int, target: str) -> None:
    server = grpc.aio.server(options=_UNBOUND)
    async with grpc.aio.insecure_channel(target, options=_UNBOUND) as channel:
        forward = channel.unary_unary(messages.PREDICT.path)

        async def handle(request: bytes, context: Any) -> bytes:
            answer: bytes = await forward(request, timeout=30)
            return answer

        handler = grpc.unary_unary_rpc_method_handler(handle)
        table = {messages.PREDICT.name: handler}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(messages.PREDICT.service, table),)
        )
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


class HttpRelay:
    def __init__(self, backend: str) -> None:
        self._pool = Pool(Address.parse(f"http://{backend}"), connections=128, connect_timeout_s=1)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        parts = []
        while True:
            message = await receive()
            parts.append(message["body"])
            if not message["more_body"]:
                break
        reply = await self._pool.send(scope["method"], scope["path"], b"".join(parts), timeout_s=30)
        headers = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", b"%d" % len(reply.body)),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


if __name__ == "__main__":
    kind, port, backend = sys.argv[1:]
    if kind == "grpc":
        uvloop.run(grpc_relay(int(port), backend))
    else:
        uvicorn.run(
            HttpRelay(backend),
            port=int(port),
            loop="uvloop",
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
        )
