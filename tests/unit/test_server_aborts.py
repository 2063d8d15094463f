"""No request ends the process: shapes, types and values that end others, sent to a server in a
process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.protocol import dtypes, messages, tensors
from headrace.protocol.signatures import Signature, TensorSpec, from_signature_def
from tests.live import LiveServer, until

SHAPES: tuple[tuple[int, ...], ...] = (
    *(
        (),
        (0,),
        (1,),
        (7,),
        (1, 1),
        (0, 6),
        (2, 0),
        (3, 6),
        (1, 2, 2),
        (2, 3, 4),
        (0, 3, 4),
        (1, 1, 1, 1),
    ),
    *(
        (0, 8, 8, 2),
        (1, 8, 8, 2),
        (2, 4, 4, 2),
        (1, 8, 8, 3),
        (1, 0, 0, 2),
        (1, 1, 1, 2),
        (1, 4, 4, 4, 1),
    ),
    *((1, 1, 1, 1, 1), (1,) * 6, (1,) * 9),
)
FEW = ((), (1,), (0, 6), (2, 3, 4), (0, 8, 8, 2))
AS_MANY_AS_TOLD = ("filled", "repeated")
CONTRACT = (
    "half_plus_two",
    "mnist_cnn",
    "asserts",
    "slow",
    "judges",
    "two_in_two_out",
    "scalar_out",
    "counter",
)
KINDS = ("words_tf2", "table_tf2", "examples_tf2", "many_signatures", "keras_functional")


@pytest.fixture(scope="session")
def fragile(exported: Callable[..., Path]) -> Path:
    return exported("export_fragile.py")


def server(launch: LiveServer.Launcher, folder: Path, root: Path, *names: str) -> LiveServer:
    entries = "".join(
        f'config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow" }}'
        for n in names
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {entries} }}")
    found = launch(model_config_file=config, models_root=root, access_log="off")
    found.wait_until_available(*names)
    return found


def signatures(live: LiveServer, model: str) -> Iterator[Signature]:
    request = messages.GetModelMetadataRequest(
        model_spec={"name": model}, metadata_field=["signature_def"]
    )
    answer = live.channel.unary_unary(messages.GET_MODEL_METADATA.path)(
        request.SerializeToString(), timeout=30
    )
    packed = messages.GetModelMetadataResponse.FromString(answer).metadata["signature_def"]
    for name, definition in messages.SignatureDefMap.FromString(packed.value).signature_def.items():
        if not name.startswith("__"):
            yield from_signature_def(name, definition)


def ask(
    live: LiveServer,
    model: str,
    signature: Signature,
    inputs: dict[str, Any],
    *,
    timeout_s: float = 5,
) -> str:
    """The status; what is neither an answer nor a refusal fails the test."""
    request = messages.PredictRequest(model_spec={"name": model, "signature_name": signature.name})
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(
            value if not isinstance(value, np.ndarray) else tensors.to_proto(value)
        )
    try:
        live.channel.unary_unary(messages.PREDICT.path)(
            request.SerializeToString(), timeout=timeout_s
        )
    except grpc.RpcError as error:
        code: str = error.code().name
        assert live.process.poll() is None, f"{model} {signature.name} {request!r:.500}"
        assert code not in ("UNAVAILABLE", "CANCELLED", "UNKNOWN"), (
            f"{model} {signature.name}: {error.details()}"
        )
        return code
    return "OK"


def values(spec: TensorSpec, shape: tuple[int, ...], largest: int) -> Iterator[np.ndarray]:
    """Good ones, then such as are no numbers, negative, or far out of range."""
    assert spec.dtype is not None
    if spec.dtype.is_string:
        for text in (b"", b"river \xff\0", b"\x89PNG\r\n\x1a\n" + bytes(40), PNG):
            yield np.full(shape, text, object)
        return
    kind = spec.dtype.numpy.kind
    for number in (1, 0, -1, largest) if kind in "iu" else (1.0, np.nan, np.inf, -3e38):
        with np.errstate(over="ignore"):
            yield np.full(shape, number).astype(spec.dtype.numpy)


def other_types(spec: TensorSpec) -> Iterator[np.ndarray]:
    shape = tuple(1 if d < 0 else d for d in spec.shape or (1,))
    for dtype in (
        dtypes.FLOAT,
        dtypes.INT32,
        dtypes.INT64,
        dtypes.STRING,
        dtypes.BOOL,
        dtypes.COMPLEX64,
    ):
        if dtype is not spec.dtype:
            yield np.full(shape, b"1", object) if dtype.is_string else np.ones(shape, dtype.numpy)


def huge() -> Iterator[Any]:
    """Shapes that say much more than is there."""
    for number in (1, 3, 7, 9):
        for dims in (
            (1 << 40,),
            (1 << 31, 1 << 31),
            (1, 8, 8, 1 << 40),
            (1, 1 << 20, 1 << 20, 2),
            (-1,),
            (0, 1 << 62),
        ):
            proto = messages.TensorProto(dtype=number)
            for size in dims:
                proto.tensor_shape.dim.add(size=size)
            yield proto


def abuse(
    live: LiveServer,
    model: str,
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
    largest: int = 2**31 - 1,
) -> int:
    """``largest``: a number far out of range. Graphs that make as many elements as they are told
    get a smaller one: several such requests at a time would fill the machine's memory."""
    count = 0
    for signature in sorted(signatures(live, model), key=lambda signature: signature.name):
        number = largest
        if signature.name in AS_MANY_AS_TOLD:
            number = min(largest, 2**24)
        fit = {
            alias: np.full(tuple(1 if d < 0 else d for d in spec.shape or ()), b"1", object)
            if spec.dtype is dtypes.STRING
            else np.ones(
                tuple(1 if d < 0 else d for d in spec.shape or ()), spec.dtype and spec.dtype.numpy
            )
            for alias, spec in signature.inputs.items()
        }
        for alias, spec in signature.inputs.items():
            sent: list[Any] = [value for shape in shapes for value in values(spec, shape, number)]
            for one in (*sent, *other_types(spec), *huge()):
                ask(live, model, signature, {**fit, alias: one}, timeout_s=1)
                count += 1
    return count


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63606060000000040001"
    "f61738550000000049454e44ae426082"
)


def test_a_few_bad_requests_of_every_class_do_not_end_the_server(
    fragile: Path, tmp_path: Path, launch: LiveServer.Launcher
) -> None:
    live = server(launch, tmp_path, fragile, "strict")
    assert abuse(live, "strict", FEW, largest=2**22) > 500
    assert live.process.poll() is None
    assert live.states("strict") == {1: "AVAILABLE"}


def test_graphs_that_say_no_rank_run_in_a_child_and_end_that_alone(
    fragile: Path, tmp_path: Path, launch: LiveServer.Launcher
) -> None:
    live = server(launch, tmp_path, fragile, "vague")
    (signature,) = (s for s in signatures(live, "vague") if s.name == "conv1d")
    good, bad = np.ones((1, 4, 2), np.float32), np.ones((1, 1), np.float32)
    assert ask(live, "vague", signature, {"x": good}) == "OK"

    ended = messages.PredictRequest(model_spec={"name": "vague", "signature_name": "conv1d"})
    ended.inputs["x"].CopyFrom(tensors.to_proto(bad))
    with pytest.raises(grpc.RpcError) as told:
        live.channel.unary_unary(messages.PREDICT.path)(ended.SerializeToString(), timeout=30)
    assert told.value.code().name == "UNAVAILABLE"
    assert "being restarted" in str(told.value.details())

    ended.inputs["x"].CopyFrom(tensors.to_proto(good))

    def is_back() -> bool:
        try:
            return bool(
                live.channel.unary_unary(messages.PREDICT.path)(
                    ended.SerializeToString(), timeout=30
                )
            )
        except grpc.RpcError as error:
            assert error.code().name == "UNAVAILABLE", error.details()
            return False

    until(is_back, 30)
    assert live.process.poll() is None


@pytest.mark.long
@pytest.mark.parametrize("name", CONTRACT)
def test_no_request_ends_a_server_of_the_contracts_models(
    name: str, contract_models: Path, tmp_path: Path, launch: LiveServer.Launcher
) -> None:
    live = server(launch, tmp_path, contract_models, name)
    assert abuse(live, name) > 100 or name == "counter"
    assert live.process.poll() is None
    assert live.states(name)


@pytest.mark.long
def test_no_request_ends_a_server_of_touchy_graphs(
    fragile: Path, tmp_path: Path, launch: LiveServer.Launcher
) -> None:
    live = server(launch, tmp_path, fragile, "strict")
    assert abuse(live, "strict") > 1000
    assert live.process.poll() is None
    assert live.states("strict") == {1: "AVAILABLE"}
