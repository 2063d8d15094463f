"""A SavedModel of five nodes, y = 0.5 x + 2, written without TensorFlow; the trainer's CLI over a
store of its own."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from headrace.protocol import messages
from tests.forks import ForkServer
from tests.unit.warm import WarmTrainer, warm_trainer

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = [
    {"signature_name": "serving_default", "inputs": {"x": [1.0, 2.0]}, "outputs": {"y": [2.5, 3.0]}}
]
CONFIG = """model_config_list {{
  config {{ name: "known" base_path: "/models/known" model_platform: "tensorflow" {policy} }}
  config {{ name: "linear_model" base_path: "/models/linear_model" model_platform: "tensorflow" }}
}}
"""


def node(graph: Any, name: str, op: str, *inputs: str, **attributes: Any) -> None:
    added = graph.node.add(name=name, op=op, input=inputs)
    added.attr["T" if inputs else "dtype"].type = 1
    for key, value in attributes.items():
        added.attr[key].CopyFrom(value)


def constant(value: float) -> Any:
    attribute = messages.AttrValue()
    attribute.tensor.dtype = 1
    attribute.tensor.tensor_shape.SetInParent()
    attribute.tensor.float_val.append(value)
    return attribute


def export(folder: Path, *, golden: Any = GOLDEN, two: float = 2.0) -> Path:
    """``two`` is what it really adds."""
    shape = messages.AttrValue()
    shape.shape.dim.add(size=-1)
    saved = messages.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    graph = meta.graph_def
    graph.versions.producer = 27
    node(graph, "x", "Placeholder", shape=shape)
    node(graph, "half", "Const", value=constant(0.5))
    node(graph, "two", "Const", value=constant(two))
    node(graph, "product", "Mul", "x", "half")
    node(graph, "y", "AddV2", "product", "two")
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for side, alias in ((signature.inputs, "x"), (signature.outputs, "y")):
        side[alias].name = f"{alias}:0"
        side[alias].dtype = 1
        side[alias].tensor_shape.dim.add(size=-1)
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    (folder / "assets.extra" / "golden.json").write_text(json.dumps(golden))
    return folder


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HEADRACE_STORE": str(place / "models"),
        "HEADRACE_CONFIG": str(place / "multimodel.config"),
        "HEADRACE_CACHE": str(place / "cache"),
        "HEADRACE_GATEWAY": "http://127.0.0.1:9",  # the discard port: nobody listens
        "HEADRACE_LIVE_TIMEOUT_S": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
    }


def command(*arguments: str | Path) -> list[str]:
    """The CLI in a child that fails when TensorFlow was imported."""
    script = "import sys; from trainer.cli import main; code = main(sys.argv[1:]); "
    script += "sys.exit(99 if 'tensorflow' in sys.modules else code)"
    return [sys.executable, "-c", script, *map(str, arguments)]


def trainer(
    place: Path, *arguments: str | Path, kill_at: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The CLI in a child that stays for all tests, since its imports cost more than most calls; it
    fails when TensorFlow was imported. ``kill_at``: see WarmTrainer.call."""
    return call(place, *arguments, environ=environment(place), kill_at=kill_at)


def call(
    place: Path, *arguments: str | Path, environ: Mapping[str, str], kill_at: int | None = None
) -> subprocess.CompletedProcess[str]:
    child = _child()
    done = child.call(place, *map(str, arguments), environ=environ, kill_at=kill_at)
    assert not child.imported_tensorflow, arguments
    return done


@functools.cache
def _child() -> WarmTrainer:
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(warm_trainer(stack.enter_context(ForkServer("trainer.cli")), folder))
