"""TensorFlow's C API as an engine, on real models with answers known by head."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from headrace.protocol import dtypes, messages
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, InvalidArgument, NotFound
from headrace.server.engines import graph_traits, tensorflow
from headrace.server.engines.tensorflow import SavedModel, TensorFlowEngine
from tests.live import ROOT

Load = Callable[[str], SavedModel]

IDENTITIES = {"bf16": dtypes.BFLOAT16} | {d.name: d for d in dtypes.ALL if d is not dtypes.BFLOAT16}


@pytest.fixture
def load(contract_models: Path) -> Iterator[Load]:
    loaded: list[SavedModel] = []

    def named(path: str) -> SavedModel:
        loaded.append(TensorFlowEngine().load(contract_models / path))
        return loaded[-1]

    yield named
    for model in loaded:
        model.close()


def run(
    model: SavedModel, signature: str = "serving_default", **inputs: np.ndarray
) -> dict[str, np.ndarray]:
    promised = model.signatures[signature]
    return model.run(promised, inputs, tuple(promised.outputs))


def test_a_process_that_predicts_never_imports_tensorflow(contract_models: Path) -> None:
    program = f"""
import sys
import numpy as np
from pathlib import Path
from headrace.server.engines.tensorflow import TensorFlowEngine

model = TensorFlowEngine().load(Path({str(contract_models / "half_plus_two" / "123")!r}))
inputs = {{"x": np.array([1, 2, 5], np.float32)}}
answer = model.run(model.signatures["serving_default"], inputs, ["y"])
heavy = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
print(answer["y"].tolist(), heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "[2.5, 3.0, 4.5] []\n"


@pytest.mark.parametrize(("name", "dtype"), IDENTITIES.items(), ids=list(IDENTITIES))
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0, 3)], ids=str)
def test_every_dtype_goes_in_and_comes_out(
    load: Load, name: str, dtype: DType, shape: tuple[int, ...]
) -> None:
    count = int(np.prod(shape))
    if dtype.is_string:
        sent = np.empty(count, object)
        sent[:] = [b"", b"\xff\x00", b"x" * 23, b"y" * 1000, "é".encode(), b"z"][:count]
    else:
        sent = (np.arange(count) % 2 if dtype is dtypes.BOOL else np.arange(count)).astype(
            dtype.numpy
        )
    sent = sent.reshape(shape)

    got = run(load(f"ident_{name}/1"), x=sent)["y"]

    assert got.dtype == dtype.numpy
    assert got.shape == shape
    assert got.tolist() == sent.tolist()


def test_an_array_that_is_not_contiguous_or_not_native_is_read_right(load: Load) -> None:
    sent = np.arange(12, dtype=">f4").reshape(3, 4).T[::2]

    assert run(load("ident_float/1"), x=sent)["y"].tolist() == sent.tolist()


def test_what_comes_out_outlives_the_model(contract_models: Path) -> None:
    model = TensorFlowEngine().load(contract_models / "ident_float" / "1")
    got = run(model, x=np.arange(1000, dtype=np.float32))["y"]

    model.close()

    assert got.tolist() == list(range(1000))


def test_several_inputs_and_outputs_keep_their_names(load: Load) -> None:
    got = run(
        load("two_in_two_out/1"), str_t=np.array([b"a"], object), int_t=np.array([7], np.int32)
    )

    assert (got["int_o"].tolist(), got["str_o"].tolist()) == ([7], [b"a"])


def test_signatures_without_inputs_and_reference_outputs_run(load: Load) -> None:
    model = load("counter/123")

    assert [
        float(run(model, name)["output"])
        for name in ("reset_counter", "incr_counter", "incr_counter")
    ] == [
        0,
        1,
        2,
    ]
    assert float(run(model, "incr_counter_by", delta=np.float32(5))["output"]) == 7
    assert float(run(model, "get_counter")["output"]) == 7


def test_the_runtime_speaks_for_itself(load: Load) -> None:
    model = load("half_plus_two/123")

    with pytest.raises(
        InvalidArgument, match="Expects arg\\[0\\] to be float but string is provided"
    ):
        run(model, x=np.array([b"a"], object))
    with pytest.raises(InvalidArgument, match="ParseExample"):
        run(model, "regress_x_to_y", inputs=np.array([b"not an example"], object))


def test_a_signature_that_names_what_the_graph_has_not_is_refused(load: Load) -> None:
    with pytest.raises(
        InvalidArgument, match="Tensor NoOp, specified in the signature, was not found in the Graph"
    ):
        run(load("scalar_out/1"), "__saved_model_init_op")


@pytest.mark.parametrize(
    "shape", [(), (1,), (1, 28), (28, 28, 1), (1, 28, 28, 1, 1), (1, 28, 28, 3), (1, 27, 28, 1)]
)
def test_a_shape_that_would_abort_a_convolution_is_refused(
    load: Load, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidArgument, match="shape"):
        run(load("mnist_cnn/1"), x=np.zeros(shape, np.float32))


def test_a_convolution_takes_every_batch_its_signature_promises(load: Load) -> None:
    model = load("mnist_cnn/1")

    assert [run(model, x=np.zeros((n, 28, 28, 1), np.float32))["y"].shape for n in (0, 1, 3)] == [
        (0, 10),
        (1, 10),
        (3, 10),
    ]


def test_shapes_elsewhere_are_the_graphs_business(load: Load) -> None:
    assert run(load("half_plus_two/123"), x=np.zeros((2, 3, 4), np.float32))["y"].shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("model", "shapes_bind", "may_take_long"),
    [
        ("half_plus_two/123", False, set()),
        ("mnist_cnn/1", True, set()),
        ("slow/1", False, {"serving_default"}),
    ],
)
def test_what_a_graph_is_made_of_says_how_to_run_it(
    load: Load, model: str, shapes_bind: bool, may_take_long: set[str]
) -> None:
    traits = load(model).traits

    assert (traits.shapes_bind, traits.may_take_long) == (shapes_bind, may_take_long)


def test_one_run_that_was_held_up_is_not_taken_for_the_rule(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("half_plus_two/123")
    x = np.ones(1, np.float32)
    for seconds, expected in ((0.5, 0.5), (0.125, 0.125), (4.0, 0.25), (4.0, 0.5), (0.125, 0.125)):
        clock = iter((0.0, seconds))
        monkeypatch.setattr(
            tensorflow, "time", SimpleNamespace(perf_counter=lambda clock=clock: next(clock))
        )

        run(model, x=x)

        assert model.expected_s(model.signatures["serving_default"], [{"x": x}]) == expected


def test_a_loop_behind_one_signature_leaves_the_others_quick() -> None:
    meta_graph = messages.MetaGraphDef()
    graph, library = meta_graph.graph_def, meta_graph.graph_def.library
    for name, op, inputs in (
        ("x", "Placeholder", ()),
        ("plain", "Identity", ("x",)),
        ("called", "PartitionedCall", ("x:0",)),
        ("chosen", "Case", ("plain",)),
        ("after", "Identity", ("x", "^called")),
        ("named", "straight", ("x",)),
    ):
        graph.node.add(name=name, op=op).input.extend(inputs)
    graph.node[2].attr["f"].func.name = "outer"
    graph.node[3].attr["branches"].list.func.add(name="straight")
    graph.node[3].attr["branches"].list.func.add(name="outer")
    for name, op in (("outer", "PartitionedCall"), ("inner", "While"), ("straight", "AddV2")):
        library.function.add(signature={"name": name}).node_def.add(name="n", op=op)
    library.function[0].node_def[0].attr["f"].func.name = "inner"
    for name in ("plain", "called", "chosen", "after", "named"):
        meta_graph.signature_def[name].outputs["y"].name = f"{name}:0"

    assert graph_traits.traits(meta_graph).may_take_long == {"called", "chosen", "after"}


def test_a_run_past_its_deadline_is_stopped(load: Load) -> None:
    model = load("slow/1")
    rounds = np.array([50_000_000], np.float32)
    started = time.monotonic()

    with pytest.raises(DeadlineExceeded, match="Timed out waiting for notification"):
        model.run(model.signatures["serving_default"], {"x": rounds}, ["y"], timeout_s=0.2)

    assert time.monotonic() - started < 5  # to its end it takes minutes
    assert run(model, x=np.array([5], np.float32))["y"].tolist() == [10]


def test_twenty_thousand_runs_leave_nothing_behind(load: Load) -> None:
    model, strings = load("half_plus_two/123"), load("ident_string/1")
    x, text = np.zeros(1000, np.float32), np.array([b"x" * 1000], object)

    def runs(count: int) -> int:
        for _ in range(count):
            run(model, x=x)
            run(strings, x=text)
        return _rss_kib()

    before = runs(1000)
    # 10,000 times 5 kB in and out: a leak of either would be tens of megabytes.
    assert runs(10_000) - before < 8_000


def test_loading_again_and_again_gives_memory_back(contract_models: Path) -> None:
    def loads(count: int) -> int:
        for _ in range(count):
            TensorFlowEngine().load(contract_models / "half_plus_two" / "123").close()
        return _rss_kib()

    before = loads(30)
    assert loads(60) - before < 8_000


def test_a_load_that_fails_says_why(contract_models: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NotFound,
        match=r"Could not find SavedModel \.pb or \.pbtxt at supplied export directory path",
    ):
        TensorFlowEngine().load(tmp_path)
    with pytest.raises(NotFound, match="Could not find meta graph def matching"):
        TensorFlowEngine(tags=("gpu",)).load(contract_models / "half_plus_two" / "123")


@pytest.mark.parametrize("damage", ["variables", "graph"])
def test_a_damaged_version_fails_alone(contract_models: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "1"
    shutil.copytree(contract_models / "half_plus_two" / "123", folder)
    if damage == "variables":
        next((folder / "variables").glob("*.data-*")).write_bytes(b"")
    else:
        (folder / "saved_model.pb").write_bytes(b"\xff\xff\xff")

    with pytest.raises(HeadraceError):
        TensorFlowEngine().load(folder)


def _rss_kib() -> int:
    line = next(
        s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmRSS:")
    )
    return int(line.split()[1])
