"""Which graphs are row-wise: those that are keep their answers among strangers, those that are not
are seen through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.batching import samples
from headrace.server.batching.adaptive import obstacles
from headrace.server.batching.batcher import Batcher, Limits, PendingRequest
from headrace.server.engines.tensorflow import SavedModel, TensorFlowEngine
from headrace.server.lifecycle import warmup
from headrace.store import golden
from tests.unit.toy import export

Arrays = Mapping[str, np.ndarray]

FREE = (1, 2, 7)  # lengths of a free dimension


@pytest.fixture(scope="session")
def rows(exported: Callable[..., Path]) -> Path:
    return exported("export_rows.py")


@pytest.fixture(scope="module")
def apart(rows: Path) -> Iterator[SavedModel]:
    model = TensorFlowEngine().load(rows / "apart" / "1")
    yield model
    model.close()


@pytest.fixture(scope="module")
def mixed(rows: Path) -> Iterator[SavedModel]:
    model = TensorFlowEngine().load(rows / "mixed" / "1")
    yield model
    model.close()


def test_graphs_that_keep_rows_apart_are_seen_to(apart: SavedModel, rows: Path) -> None:
    found = obstacles(apart, rows / "apart" / "1")
    assert {name: why for name, why in found.items() if why} == {}
    assert len(found) > 20


def test_no_graph_that_mixes_rows_passes_the_proof(mixed: SavedModel) -> None:
    told = {name: why for name, why in mixed.not_row_wise.items() if not name.startswith("__")}
    assert {name for name, why in told.items() if not why} == set()
    assert len(told) > 25


def test_samples_catch_what_a_proof_might_let_through(mixed: SavedModel, rows: Path) -> None:
    for name in (
        "centred",
        "softmax_over_rows",
        "running",
        "first_row",
        "counted",
        "numbered",
        "sorted",
        "repeated",
    ):
        signature = mixed.signatures[name]
        assert samples.disagreement(
            mixed, signature, samples.read(rows / "mixed" / "1", signature)
        ), name


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (warmup.FILE, b"no record at all"),  # nobody else reads it where warm-up is off
        (golden.FILE, b"[" * 100_000),
        (
            golden.FILE,
            b'[{"signature_name": "serving_default", "inputs": {"x": [1%s]}}]' % (b"0" * 400),
        ),
    ],
    ids=["warm-up", "deep", "huge"],
)
def test_samples_that_cannot_be_read_do_not_keep_a_version_away(
    tmp_path: Path, file: str, content: bytes
) -> None:
    folder = export(tmp_path / "1")
    (folder / file).write_bytes(content)
    model = TensorFlowEngine().load(folder)
    try:
        assert obstacles(model, folder) == {"serving_default": None}
    finally:
        model.close()


CONTRACT = {
    "half_plus_two/123": {"serving_default", "regress_x2_to_y3"},
    "mnist_cnn/1": {"serving_default"},
    "half_out/1": {"serving_default"},
    "asserts/1": set(),
    "slow/1": set(),
    "counter/123": set(),
    "scalar_out/1": set(),
    "mismatch_out/1": set(),
}
KINDS = {
    "words_tf2/1": set(),  # as long as the longest of the batch, for a while
    "table_tf2/1": {"serving_default"},
    "table_tf1/1": {"serving_default"},
    "examples_tf2/1": set(),
    "many_signatures/1": {"sum"},
    "keras_functional/1": {"serving_default", "serve"},
}


@pytest.mark.parametrize(
    ("model", "wanted"), [*CONTRACT.items(), *KINDS.items()], ids=[*CONTRACT, *KINDS]
)
def test_models_known_by_head(
    model: str, wanted: set[str], contract_models: Path, kinds: Path
) -> None:
    folder = (contract_models if model in CONTRACT else kinds) / model
    loaded = TensorFlowEngine().load(folder)
    try:
        assert {name for name, why in obstacles(loaded, folder).items() if not why} == wanted
    finally:
        loaded.close()


def array(data: st.DataObject, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    assert spec.dtype is not None
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    if spec.dtype.is_string:
        found = np.empty(shape, object)
        found.reshape(-1)[:] = [random.bytes(int(random.integers(0, 9))) for _ in range(found.size)]
        return found
    if spec.dtype.numpy.kind in "iu":
        return random.integers(0, 4, shape).astype(spec.dtype.numpy)
    scale = data.draw(st.sampled_from([1e-3, 1.0, 100.0]))
    found = (random.normal(size=shape) * scale).astype(spec.dtype.numpy)
    if data.draw(st.integers(0, 9)) == 0:
        found.reshape(-1)[0] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return found


def request(data: st.DataObject, signature: Signature, free: int) -> Arrays:
    count = data.draw(st.integers(1, 4))
    return {
        alias: array(data, spec, (count, *(free if d < 0 else d for d in (spec.shape or ())[1:])))
        for alias, spec in signature.inputs.items()
    }


def pending(batcher: Batcher, inputs: Arrays) -> PendingRequest:
    outputs = tuple(batcher.signature.outputs)
    nothing = lambda *_: None  # noqa: E731
    count = len(next(iter(inputs.values())))
    return PendingRequest(
        inputs, outputs, count, None, nothing, nothing, batch_key=batcher.batch_key(inputs, outputs)
    )


def agree(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind in "OiubS":
        return bool(np.array_equal(one, other))
    tolerance = 1e-2 if one.dtype.itemsize == 2 else 1e-4
    scale = max(1.0, float(np.nanmax(np.abs(np.where(np.isfinite(other), other, 0)), initial=0)))
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_row_is_answered_the_same_alone_and_among_strangers(
    apart: SavedModel, data: st.DataObject
) -> None:
    names = sorted(name for name, why in apart.not_row_wise.items() if not why)
    signature = apart.signatures[data.draw(st.sampled_from(names))]
    batcher = Batcher(apart, signature, Limits())
    free = data.draw(st.sampled_from(FREE))
    requests = [request(data, signature, free) for _ in range(data.draw(st.integers(2, 6)))]
    assert all(batcher.accepts(signature, inputs) for inputs in requests)

    batch = [pending(batcher, inputs) for inputs in requests]
    batcher.run(batch)

    for inputs, asked in zip(requests, batch, strict=True):
        assert asked.error is None
        alone = apart.run(signature, inputs, tuple(signature.outputs))
        assert all(agree(asked.outputs[alias], alone[alias]) for alias in alone), signature.name


@pytest.mark.parametrize("name", ["half_plus_two/123", "mnist_cnn/1"])
def test_the_contracts_models_answer_the_same_in_any_company(
    name: str, contract_models: Path
) -> None:
    model = TensorFlowEngine().load(contract_models / name)

    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        signature = model.signatures["serving_default"]
        batcher = Batcher(model, signature, Limits())
        batch = [
            pending(batcher, request(data, signature, 1))
            for _ in range(data.draw(st.integers(2, 8)))
        ]
        batcher.run(batch)
        for asked in batch:
            alone = model.run(signature, asked.inputs, asked.output_names)
            assert all(agree(asked.outputs[alias], alone[alias]) for alias in alone)

    try:
        holds()
    finally:
        model.close()
