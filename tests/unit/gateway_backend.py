"""A serving backend in memory, in place of both upstreams: it counts what reaches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gateway.app import App, create_app
from gateway.core import Core
from gateway.errors import BackendDown
from gateway.settings import Settings
from gateway.upstream.base import Reply
from headrace.protocol import messages
from headrace.protocol.errors import DeadlineExceeded, NotFound

STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}


@dataclass
class Version:
    state: str = "AVAILABLE"
    error: str = ""


@dataclass
class FakeBackend:
    """``models`` is what it serves; ``predicts`` what was run: (model, version, body)."""

    models: dict[str, dict[int, Version]] = field(default_factory=dict)
    signatures: dict[str, Any] = field(default_factory=dict)
    predicts: list[tuple[str, int, bytes]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    down: bool = False
    delay_s: float = 0.0
    answer: Reply = field(
        default_factory=lambda: Reply(200, "application/json", b'{"predictions": [3.0]}')
    )
    cancelled: list[str] = field(default_factory=list)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        timeout_s: float,
        request_id: str = "",
        content_type: str = "application/json",
    ) -> Reply:
        await self._reach(path, timeout_s)
        self.asked.append(f"{method} {path}")
        if method == "GET":
            metadata = (
                {"model_spec": {"version": str(self._latest(path.split("/")[3]))}}
                if "/metadata" in path
                else {}
            )
            return Reply(200, "application/json", json.dumps(metadata).encode())
        model, version = unquote(path.removeprefix("/v1/models/").rpartition(":")[0]).split(
            "/versions/"
        )
        if self._state(model, int(version)) != "AVAILABLE":
            text = json.dumps(
                {"error": f"Servable not found for request: Specific({model}, {version})"}
            )
            return Reply(404, "application/json", text.encode())
        self.predicts.append((model, int(version), body or b""))
        return self.answer

    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes:
        await self._reach(path, timeout_s)
        self.asked.append(path)
        if path == messages.GET_MODEL_STATUS.path:
            return self._status(messages.GetModelStatusRequest.FromString(request))
        if path == messages.GET_MODEL_METADATA.path:
            return self._metadata(messages.GetModelMetadataRequest.FromString(request))
        method = next(m for m in messages.METHODS if m.path == path)
        message = method.request.FromString(request)
        spec = (
            message.tasks[0].model_spec
            if method is messages.MULTI_INFERENCE
            else message.model_spec
        )
        name, version = spec.name, spec.version.value
        if self._state(name, version) != "AVAILABLE":
            raise NotFound(f"Servable not found for request: Specific({name}, {version})")
        self.predicts.append((name, version, request))
        return b"the answer"

    async def close(self) -> None: ...

    async def _reach(self, path: str, timeout_s: float) -> None:
        if self.down:
            raise BackendDown("the serving backend at fake cannot be reached: connection refused")
        if self.delay_s:
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.sleep(self.delay_s)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the serving backend did not answer within {timeout_s:.3g} s"
                ) from None
            except asyncio.CancelledError:
                self.cancelled.append(path)
                raise

    def _state(self, model: str, version: int) -> str:
        status = self.models.get(model, {}).get(version)
        return status.state if status else ""

    def _latest(self, model: str) -> int:
        return max(
            (n for n, v in self.models.get(model, {}).items() if v.state == "AVAILABLE"), default=0
        )

    def _status(self, request: Any) -> bytes:
        versions = self.models.get(request.model_spec.name)
        if not versions:
            raise NotFound(f"Could not find any versions of model {request.model_spec.name}")
        reply = messages.GetModelStatusResponse()
        for number, version in versions.items():
            row = reply.model_version_status.add(version=number, state=STATES[version.state])
            row.status.error_message = version.error
        return bytes(reply.SerializeToString())

    def _metadata(self, request: Any) -> bytes:
        reply = messages.GetModelMetadataResponse()
        asked = request.model_spec.version.value
        reply.model_spec.version.value = asked or self._latest(request.model_spec.name)
        table = messages.SignatureDefMap()
        for name, definition in self.signatures[request.model_spec.name].items():
            table.signature_def[name].CopyFrom(definition)
        reply.metadata["signature_def"].CopyFrom(messages.pack(table))
        return bytes(reply.SerializeToString())


def signature(
    inputs: Mapping[str, tuple[int, list[int] | None]], *, outputs: tuple[str, ...] = ("y",)
) -> Any:
    """A SignatureDef from alias -> (dtype number, dims); None dims are an unknown rank. Outputs are
    float [-1]."""
    definition = messages.SignatureDef(method_name="tensorflow/serving/predict")
    for alias, (dtype, dims) in inputs.items():
        info = definition.inputs[alias]
        info.name, info.dtype = f"{alias}:0", dtype
        info.tensor_shape.unknown_rank = dims is None
        for size in dims or []:
            info.tensor_shape.dim.add(size=size)
    for alias in outputs:
        output = definition.outputs[alias]
        output.name, output.dtype = f"{alias}:0", 1
        output.tensor_shape.dim.add(size=-1)
    return definition


def model_list(*names: str, labels: Mapping[str, Mapping[str, int]] | None = None) -> str:
    text = ""
    for name in names:
        marks = "".join(
            f' version_labels {{ key: "{label}" value: {version} }}'
            for label, version in ((labels or {}).get(name) or {}).items()
        )
        policy = " model_version_policy { all {} }" if marks else ""
        text += (
            f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: '
            f'"tensorflow"{policy}{marks} }}\n'
        )
    return f"model_config_list {{\n{text}}}\n"


def settings(config: Path, **changes: Any) -> Settings:
    defaults: dict[str, Any] = {
        "access_log": False,
        "refresh_s": 0.02,
        "probe_s": 0.02,
        "probe_timeout_s": 0.2,
    }
    return Settings(model_config_file=str(config), **{**defaults, **changes})


def gateway(backend: FakeBackend, config: Path, **changes: Any) -> App:
    s = settings(config, **changes)
    return create_app(s, core=Core(s, rest=backend, grpc=backend))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: Any,
    method: str,
    path: str,
    body: bytes | list[bytes] = b"",
    *,
    headers: Mapping[str, str] | None = None,
    hang_up: asyncio.Event | None = None,
) -> Answer | None:
    """One request through the ASGI app; None when it ended without an answer."""
    raw, _, query = path.partition("?")
    chunks = [body] if isinstance(body, bytes) else list(body)
    scope = {
        "type": "http",
        "method": method,
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "root_path": "",
        "scheme": "http",
        "server": ("test", 80),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        await (hang_up or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    return Answer(
        sent[0]["status"],
        {k.decode(): v.decode() for k, v in sent[0]["headers"]},
        b"".join(m.get("body", b"") for m in sent[1:]),
    )


async def eventually(condition: Any, *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)
