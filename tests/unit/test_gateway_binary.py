"""npy, npz and pictures through the REST door: bit for bit in both directions, and what is no such
file refused."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gateway.app import App
from headrace.codec import npy
from headrace.protocol import dtypes, messages, tensors
from headrace.protocol.errors import HeadraceError
from tests.unit.gateway_backend import (
    FakeBackend,
    Version,
    ask,
    eventually,
    gateway,
    model_list,
    signature,
)

NPY, NPZ = "application/x-npy", "application/x-npz"
HELD = [d for d in dtypes.ALL if d not in (dtypes.STRING, dtypes.BFLOAT16)]
IDENT = [f"ident_{d.name}" for d in dtypes.ALL]
NAMES = (*IDENT, "two", "text", "page")


class Echo(FakeBackend):
    """Answers a Predict call with its own inputs, as outputs y (of x), or by the same names."""

    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes:
        if path != messages.PREDICT.path:
            return await super().call(path, request, timeout_s=timeout_s, request_id=request_id)
        sent = messages.PredictRequest.FromString(request)
        self.predicts.append((sent.model_spec.name, sent.model_spec.version.value, request))
        reply = messages.PredictResponse()
        for alias, proto in sent.inputs.items():
            reply.outputs["y" if alias == "x" else alias].CopyFrom(proto)
        return bytes(reply.SerializeToString())


def with_output(definition: Any, dtype: int) -> Any:
    for output in definition.outputs.values():
        output.dtype = dtype
    return definition


@pytest.fixture
def backend() -> Echo:
    known = {
        f"ident_{d.name}": {
            "serving_default": with_output(signature({"x": (d.number, None)}), d.number)
        }
        for d in dtypes.ALL
    }
    known["two"] = {
        "serving_default": signature({"a": (1, [-1, 2]), "b": (3, [-1])}, outputs=("a", "b")),
        "one": signature({"x": (1, [-1])}),
    }
    known["text"] = {"serving_default": with_output(signature({"x": (7, [-1])}), 7)}
    known["page"] = {"serving_default": with_output(signature({"x": (7, [])}), 7)}
    return Echo(models={name: {1: Version()} for name in NAMES}, signatures=known)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "multimodel.config"
    path.write_text(model_list(*NAMES))
    return path


def run(backend: Echo, config: Path, work: Callable[[App], Awaitable[Any]], **changes: Any) -> Any:
    async def main() -> Any:
        app = gateway(backend, config, **changes)
        async with app.core:
            await eventually(lambda: all(m.has_status for m in app.core.catalog.models.values()))
            return await work(app)

    return asyncio.run(main())


def post(
    backend: Echo,
    config: Path,
    model: str,
    body: bytes,
    *,
    sent: str = "",
    accept: str = "",
    **more: Any,
) -> Any:
    changes = more.pop("changes", {})
    headers = {
        **({"Content-Type": sent} if sent else {}),
        **({"Accept": accept} if accept else {}),
        **more,
    }
    path = f"/v1/models/{model}:predict"
    return run(
        backend, config, lambda app: ask(app, "POST", path, body, headers=headers), **changes
    )


def saved(array: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


def zipped(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def every_bit(dtype: np.dtype) -> np.ndarray:
    """Patterns of every kind: for floats NaNs with payloads, infinities, subnormals and both zeros
    are among them."""
    if dtype == np.bool_:
        return np.array([[True, False], [False, True]])
    return (
        np.random.default_rng(7)
        .integers(0, 256, (64, 2, dtype.itemsize), np.uint8)
        .view(dtype)[..., 0]
    )


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": lambda a: a,
    "a scalar": lambda a: a[0, 0].reshape(()),
    "empty": lambda a: a[:0],
    "column-major": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_every_dtype_that_npy_holds_comes_back_bit_for_bit(
    backend: Echo, config: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    async def work(app: App) -> None:
        for dtype in HELD:
            array = change(every_bit(dtype.numpy))
            headers = {"Content-Type": NPY, "Accept": NPY}
            answer = await ask(
                app, "POST", f"/v1/models/ident_{dtype}:predict", saved(array), headers=headers
            )
            assert (answer.status, answer.headers["content-type"]) == (200, NPY), (
                dtype,
                answer.body,
            )
            got = np.load(io.BytesIO(answer.body), allow_pickle=False)
            expected = array.astype(dtype.numpy)
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
            assert got.tobytes() == expected.tobytes(), dtype

    run(backend, config, work)


def test_the_call_goes_on_pinned_and_with_its_bytes_as_content(backend: Echo, config: Path) -> None:
    array = np.float32([1.5, -2.0])
    assert post(backend, config, "ident_float", saved(array), sent=NPY).status == 200
    ((model, version, request),) = backend.predicts
    sent = messages.PredictRequest.FromString(request)
    assert (model, version, sent.model_spec.signature_name) == ("ident_float", 1, "serving_default")
    assert sent.inputs["x"] == tensors.to_proto(array)


def test_npz_holds_several_by_name(backend: Echo, config: Path) -> None:
    a, b = np.float32([[1.0, np.nan]]), np.int32([7])
    answer = post(backend, config, "two", zipped(a=a, b=b), sent=NPZ, accept=NPZ)
    assert answer.status == 200, answer.body
    got = np.load(io.BytesIO(answer.body), allow_pickle=False)
    assert {name: (v.dtype, v.tobytes()) for name, v in got.items()} == {
        "a": (a.dtype, a.tobytes()),
        "b": (b.dtype, b.tobytes()),
    }


def test_npz_may_be_deflated_and_its_one_array_nameless(backend: Echo, config: Path) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, np.zeros(1000, np.float32))
    answer = post(backend, config, "ident_float", file.getvalue(), sent=NPZ, accept=NPY)
    assert np.load(io.BytesIO(answer.body)).shape == (1000,)


def test_json_in_and_npy_out(backend: Echo, config: Path) -> None:
    answer = post(
        backend,
        config,
        "ident_double",
        b'{"instances": [0.1, 0.2]}',
        accept=f"{NPY}, application/json;q=0.5",
    )
    assert np.load(io.BytesIO(answer.body)).tolist() == [0.1, 0.2]


def test_npy_in_and_json_out(backend: Echo, config: Path) -> None:
    answer = post(backend, config, "ident_float", saved(np.float32([[1.0], [2.5]])), sent=NPY)
    assert (answer.headers["content-type"], answer.json()) == (
        "application/json",
        {"outputs": [[1.0], [2.5]]},
    )


def test_a_header_names_the_signature(backend: Echo, config: Path) -> None:
    array = saved(np.float32([1.0]))
    answer = post(backend, config, "two", array, sent=NPY, **{"Headrace-Signature": "one"})
    assert answer.json() == {"outputs": [1.0]}
    answer = post(backend, config, "two", array, sent=NPY, **{"Headrace-Signature": "oen"})
    assert answer.status == 400 and "did you mean one?" in answer.json()["error"]


PICTURES = {"image/png": b"\x89PNG\r\n\x1a\n\0\xff", "image/jpeg": b"\xff\xd8\xff\xe0\0\xff"}


@pytest.mark.parametrize("model", ["text", "page"])
@pytest.mark.parametrize(("sent", "picture"), PICTURES.items())
def test_a_picture_is_the_one_string_input(
    backend: Echo, config: Path, model: str, sent: str, picture: bytes
) -> None:
    assert post(backend, config, model, picture, sent=sent).status == 200
    tensor = messages.PredictRequest.FromString(backend.predicts[0][2]).inputs["x"]
    assert tensors.from_proto(tensor).ravel().tolist() == [picture]
    assert len(tensor.tensor_shape.dim) == (1 if model == "text" else 0)


def crafted(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def doubled() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning):
        for _ in range(2):
            archive.writestr("a.npy", saved(np.float32([[1, 2]])))
    return file.getvalue()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 20_000_000)
    return file.getvalue()


def lying_zip() -> bytes:
    """The directory says 10 bytes where there are many more."""
    raw = bytearray(zipped(x=np.zeros(1000, np.float32)))
    at = raw.rfind(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(raw)


FLOATS = saved(np.float32([1.0]))
BAD: dict[str, tuple[str, str, bytes, int, str]] = {
    "empty": ("ident_float", NPY, b"", 400, "expected an npy file"),
    "json called npy": ("ident_float", NPY, b'{"instances": [1]}', 400, "expected an npy file"),
    "cut in the head": ("ident_float", NPY, FLOATS[:40], 400, "header that cannot be read"),
    "cut in the data": ("ident_float", NPY, FLOATS[:-1], 400, "3 bytes, expected 4 bytes"),
    "bytes after it": ("ident_float", NPY, FLOATS + b"\0", 400, "5 bytes, expected 4 bytes"),
    "unknown version": (
        "ident_float",
        NPY,
        b"\x93NUMPY\x09\x00" + FLOATS[8:],
        400,
        "header that cannot be read",
    ),
    "a shape of petabytes": (
        "ident_float",
        NPY,
        crafted(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**50},), }}"),
        400,
        "0 bytes",
    ),
    "a negative shape": (
        "ident_float",
        NPY,
        crafted("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        400,
        "bytes",
    ),
    "rank 70": (
        "ident_float",
        NPY,
        crafted(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 70}), }}", b"\0" * 4),
        400,
        "rank 70",
    ),
    "no dict": (
        "ident_float",
        NPY,
        crafted("__import__('os').abort()"),
        400,
        ("header that cannot be read"),
    ),
    "deep": ("ident_float", NPY, crafted("(" * 110), 400, "header that cannot be read"),
    "a pickle": (
        "ident_float",
        NPY,
        saved(np.array([{}], object), allow_pickle=True),
        415,
        "is a pickle",
    ),
    "strings": ("ident_float", NPY, saved(np.array(["a"])), 415, "send it as JSON or over gRPC"),
    "bfloat16": ("ident_float", NPY, saved(np.zeros(1, ml_dtypes.bfloat16)), 415, "over gRPC"),
    "dates": ("ident_float", NPY, saved(np.zeros(1, "M8[s]")), 415, "no TensorFlow dtype"),
    "a record": ("ident_float", NPY, saved(np.zeros(1, [("a", "f4")])), 415, "no TensorFlow dtype"),
    "for a string input": ("text", NPY, FLOATS, 415, "by JSON or gRPC"),
    "for a bfloat16 input": ("ident_bfloat16", NPY, FLOATS, 415, "by gRPC"),
    "bools that are neither": (
        "ident_bool",
        NPY,
        saved(np.uint8([2]).view(np.bool_)),
        400,
        "a byte that is neither",
    ),
    "another dtype": (
        "ident_float",
        NPY,
        saved(np.float64([1.0])),
        400,
        "inputs.x: double, expected float (float64: .astype('float32'))",
    ),
    "another shape": (
        "two",
        NPZ,
        zipped(a=np.zeros((1, 3), "f4"), b=np.int32([1])),
        400,
        "inputs.a: shape (1, 3)",
    ),
    "one array for two": ("two", NPY, FLOATS, 415, "application/x-npz holds several by name"),
    "a missing array": (
        "two",
        NPZ,
        zipped(a=np.zeros((1, 2), "f4")),
        400,
        ("inputs: missing: b; expected"),
    ),
    "a misspelt array": (
        "ident_float",
        NPZ,
        zipped(xx=np.float32([1])),
        400,
        ("inputs.xx: no such input, expected x"),
    ),
    "batches apart": (
        "two",
        NPZ,
        zipped(a=np.zeros((2, 2), "f4"), b=np.int32([1])),
        400,
        "a batch of 1",
    ),
    "no zip": ("two", NPZ, b"PK", 400, "cannot be read"),
    "an empty zip": ("two", NPZ, b"PK\5\6" + b"\0" * 18, 400, "0 arrays"),
    "a zip of text": (
        "ident_float",
        NPZ,
        zipped(x=np.array("a")),
        415,
        ("text: npy has no text of any length"),
    ),
    "a pickle in a zip": ("ident_float", NPZ, zipped(x=np.array([{}], object)), 415, "is a pickle"),
    "a name twice": ("two", NPZ, doubled(), 400, "twice"),
    "a zip bomb": ("ident_float", NPZ, bomb(), 413, "once inflated"),
    "a zip that lies": ("ident_float", NPZ, lying_zip(), 400, "x"),
    "a damaged zip": (
        "ident_float",
        NPZ,
        zipped(x=np.float32([1, 2])).replace(b"\0\0\x80\x3f", b"\0\0\x81\x3f"),
        400,
        "cannot",
    ),
    "a picture of another type": (
        "text",
        "image/png",
        PICTURES["image/jpeg"],
        400,
        "(send it with Content-Type: image/jpeg)",
    ),
    "a picture as npy": (
        "ident_float",
        NPY,
        PICTURES["image/png"],
        400,
        "(send it with Content-Type: image/png)",
    ),
    "npy as a picture": (
        "text",
        "image/png",
        FLOATS,
        400,
        ("(send it with Content-Type: application/x-npy)"),
    ),
    "npz as npy": (
        "two",
        NPY,
        zipped(a=np.zeros((1, 2), "f4")),
        400,
        "(send it with Content-Type: application/x-npz)",
    ),
    "npy as npz": (
        "ident_float",
        NPZ,
        FLOATS,
        400,
        ("(send it with Content-Type: application/x-npy)"),
    ),
    "JSON as npy": (
        "ident_float",
        NPY,
        b'{"instances": [1]}',
        400,
        ("(send it with Content-Type: application/json)"),
    ),
    "a picture for numbers": (
        "ident_float",
        "image/png",
        PICTURES["image/png"],
        415,
        "send its pixels",
    ),
    "a picture for two": ("two", "image/png", PICTURES["image/png"], 415, "holds one input"),
    "another picture": ("text", "image/gif", b"GIF89a", 415, "image/png, image/jpeg"),
    "a form with files": (
        "text",
        "multipart/form-data; boundary=x",
        b"--x",
        415,
        "these are: application/json",
    ),
}


@pytest.mark.parametrize(("model", "sent", "body", "status", "said"), BAD.values(), ids=BAD)
def test_what_is_no_such_file_is_refused_and_never_reaches_the_backend(
    backend: Echo, config: Path, model: str, sent: str, body: bytes, status: int, said: str
) -> None:
    answer = post(backend, config, model, body, sent=sent, changes={"max_body_bytes": 1_000_000})
    assert (answer.status, said in answer.json()["error"]) == (status, True), answer.body
    assert backend.predicts == []


@pytest.mark.parametrize("sent", ["", "application/json", "application/octet-stream"])
@pytest.mark.parametrize(
    ("body", "named", "kind"),
    [
        (PICTURES["image/png"], "a PNG picture", "image/png"),
        (PICTURES["image/jpeg"], "a JPEG picture", "image/jpeg"),
        (FLOATS, "an npy file", NPY),
        (zipped(x=np.float32([1])), "a zip archive, as an npz file is", NPZ),
    ],
)
def test_bytes_that_are_not_named_are_known_by_their_beginning(
    backend: Echo, config: Path, body: bytes, named: str, kind: str, sent: str
) -> None:
    answer = post(backend, config, "ident_float", body, sent=sent)
    assert answer.status == 400 and backend.predicts == []
    assert (
        answer.json()["error"]
        == f"body: {named}, expected JSON (send it with Content-Type: {kind})"
    )
    assert answer.json()["details"][0] == {
        "path": "",
        "kind": "content_type",
        "place": "body",
        "expected": "JSON",
        "got": named,
        "hint": f"send it with Content-Type: {kind}",
    }


@pytest.mark.parametrize(
    ("model", "accept", "said"),
    [
        ("two", NPY, "accept application/x-npz"),
        ("text", NPY, "JSON can"),
        ("ident_bfloat16", NPZ, "call over gRPC can"),
    ],
)
def test_an_answer_that_cannot_be_written_so_is_refused_before_the_model_runs(
    backend: Echo, config: Path, model: str, accept: str, said: str
) -> None:
    body = {"two": {"inputs": {"a": [[1, 2]], "b": [1]}}, "text": {"inputs": ["a"]}}.get(
        model, {"inputs": [1]}
    )
    answer = post(backend, config, model, json.dumps(body).encode(), accept=accept)
    assert answer.status in (406, 501) and backend.predicts == []
    assert said in answer.json()["error"] or model == "ident_bfloat16"


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_are_refused_or_read_but_never_end_in_a_fault_of_ours(seed: int) -> None:
    random = np.random.default_rng(seed)
    for whole, read in (
        (FLOATS, npy.read),
        (zipped(x=np.float32([1, 2])), lambda b: npy.read_zip(b, limit=10_000)),
    ):
        for _ in range(200):
            body = bytearray(whole)
            for at in random.integers(0, len(body), random.integers(1, 6)):
                body[at] = random.integers(0, 256)
            try:
                read(
                    bytes(
                        body[: random.integers(1, len(body) + 1)] if random.random() < 0.3 else body
                    )
                )
            except HeadraceError:
                continue
