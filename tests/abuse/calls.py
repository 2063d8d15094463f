"""What is sent to both gRPC doors, as data, and the codes that come back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace.protocol import messages

PREDICT = messages.PREDICT.path


@dataclass(frozen=True)
class Call:
    what: str
    path: str
    request: Callable[[], bytes]
    server: str
    gateway: str
    long: bool = False


def predict(model: str = "half_plus_two", **fields: Any) -> Any:
    request = messages.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["x"]
    tensor.dtype = fields.pop("dtype", 1)
    for size in fields.pop("dims", [1]):
        tensor.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, bytes):
            setattr(tensor, name, value)
        else:
            getattr(tensor, name).extend(value)
    return request


def _bytes(**fields: Any) -> Callable[[], bytes]:
    return lambda: bytes(predict(**fields).SerializeToString())


def garbage(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _nested() -> bytes:
    """Groups of an unknown field, one in the other; parsers limit how deep."""
    return b"\x0b" * 5000 + b"\x0c" * 5000


def _call(
    what: str,
    request: Callable[[], bytes],
    both: str = "",
    *,
    path: str = PREDICT,
    server: str = "",
    gateway: str = "",
    long: bool = False,
) -> Call:
    return Call(what, path, request, server or both, gateway or both, long)


_BAD = "INVALID_ARGUMENT"

CALLS = (
    _call("a good request", _bytes(float_val=[1.0]), "OK"),
    _call("nothing", lambda: b"", _BAD),
    _call("random bytes", lambda: garbage(1, 1000), server="INTERNAL", gateway=_BAD),
    _call(
        "a message cut short",
        lambda: _bytes(float_val=[1.0])()[:-3],
        server="INTERNAL",
        gateway=_BAD,
    ),
    _call("5,000 nested groups", _nested, server="INTERNAL", gateway=_BAD),
    _call(
        "a name that is not UTF-8",
        lambda: b"\x0a\x04\x0a\x02\xff\xfe",
        server="INTERNAL",
        gateway=_BAD,
    ),
    _call("2^62 elements, one value", _bytes(dims=[1 << 62], float_val=[1.0]), _BAD),
    _call(
        "2^31 times 2^31 times 4 elements",
        _bytes(dims=[1 << 31, 1 << 31, 4], float_val=[1.0]),
        _BAD,
    ),
    _call(
        "2^40 elements, content of 4 bytes",
        _bytes(dims=[1 << 40], tensor_content=b"\0\0\x80?"),
        _BAD,
    ),
    _call("a dimension of -5", _bytes(dims=[-5], float_val=[1.0]), _BAD),
    _call("1,000 dimensions", _bytes(dims=[1] * 1000, float_val=[1.0]), _BAD),
    _call("0 times 2^62 elements", _bytes(dims=[0, 1 << 62]), _BAD),
    _call("content of 3 bytes for a float", _bytes(tensor_content=b"abc"), _BAD),
    _call("more values than elements", _bytes(float_val=[1.0] * 100_000), "OK"),
    _call("an unknown dtype", _bytes(dtype=99, float_val=[1.0]), _BAD),
    _call("a resource handle", _bytes(dtype=20), _BAD),
    _call(
        "a message of 300 MB",
        lambda: b"\x7a" + b"\xff\xff\xff\x7f" + bytes(300 << 20),
        "RESOURCE_EXHAUSTED",
        long=True,
    ),
    _call(
        "an unknown method",
        lambda: b"",
        "UNIMPLEMENTED",
        path="/tensorflow.serving.PredictionService/Nothing",
    ),
    _call("an unknown service", lambda: b"", "UNIMPLEMENTED", path="/nobody.Nothing/Nothing"),
    _call("a path that is none", lambda: b"", "UNIMPLEMENTED", path="/"),
)
