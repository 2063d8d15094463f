"""The floors of design and README: imports go down only, and TensorFlow stays with the trainer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import headrace

ROOT = Path(__file__).parents[1]
LIBRARY = {
    "headrace.protocol",
    "headrace.codec",
    "headrace.store",
    "headrace.http",
    "headrace.client",
    "headrace.server",
}
BELOW = {  # a part -> what it may import of ours, besides itself
    "headrace.protocol": set(),
    "headrace.variables": set(),
    "headrace.settings": {"headrace.protocol", "headrace.variables"},
    "headrace.codec": {"headrace.protocol"},
    "headrace.store": {"headrace.protocol"},
    "headrace.http": {"headrace.protocol"},
    "headrace.client": {"headrace.protocol", "headrace.codec"},
    "headrace.server": {
        "headrace.protocol",
        "headrace.codec",
        "headrace.store",
        "headrace.http",
    },
    "headrace.cli": LIBRARY,
    "gateway": {*LIBRARY - {"headrace.server"}, "headrace.variables", "headrace.settings"},
    "trainer": LIBRARY,
}
CLI = {"headrace.cli", "headrace.doctor", "headrace.__main__"}
# What every part stands on brings no server or client library along.
LIGHT = {"headrace.protocol", "headrace.codec", "headrace.store"}
LIGHT_NEEDS = {"google", "ml_dtypes", "numpy", "simdjson", *sys.stdlib_module_names}


def part(module: str) -> str:
    if any(module == m or module.startswith(m + ".") for m in CLI):
        return "headrace.cli"
    names = module.split(".")
    return ".".join(names[:2]) if names[0] == "headrace" else names[0]


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for (
                alias
            ) in node.names:  # `from headrace import X`: a part, or a lazy name that lives in one
                lazy = headrace._HOMES.get(alias.name) if source == "headrace" else None
                yield (
                    node.lineno,
                    lazy or (f"headrace.{alias.name}" if source == "headrace" else source),
                )


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted(
        p
        for top in ("headrace", "gateway", "trainer", "deploy")
        for p in (root / top).rglob("*.py")
    ):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        mine = part(module)
        for line, name in imports(path, module):
            target, top = part(name), name.split(".")[0]
            upward = mine in BELOW and target in BELOW and target not in {mine, *BELOW[mine]}
            heavy = mine != "trainer" and top in ("tensorflow", "keras")
            foreign = mine in LIGHT and top not in {"headrace", *LIGHT_NEEDS}
            if upward or heavy or foreign:
                found.append(f"{path.relative_to(root)}:{line}: {mine} may not import {name}")
    return found


def test_imports_go_down_only() -> None:
    assert violations(ROOT) == []


def circle(root: Path, folder: str) -> list[str]:
    """Files and folders beside each other that import one another round and round; empty where none
    do."""
    inside = folder.replace("/", ".") + "."
    below: dict[str, set[str]] = {}
    for path in sorted((root / folder).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        room = module.removeprefix(inside).partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (f"{node.module}.{alias.name}." for alias in node.names):
                    if name.startswith(inside):
                        below.setdefault(room, set()).add(
                            name.removeprefix(inside).partition(".")[0]
                        )
    try:
        TopologicalSorter({room: others - {room} for room, others in below.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


FOLDERS = (
    "headrace",
    "headrace/cli",
    "headrace/client",
    "headrace/server",
    "headrace/protocol",
    "headrace/codec",
    "headrace/store",
    "headrace/http",
    "gateway",
    "trainer",
    "deploy",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_stands_side_by_side_does_not_import_in_a_circle(folder: str) -> None:
    assert circle(ROOT, folder) == []


def test_a_circle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "part/door").mkdir(parents=True)
    (tmp_path / "part/door/rest.py").write_text("from part import core")
    (tmp_path / "part/core.py").write_text("from part.door.rest import Door")
    assert set(circle(tmp_path, "part")) == {"core", "door"}


def test_every_part_is_policed() -> None:
    parts = {
        part(f"headrace.{p.stem}") for p in (ROOT / "headrace").iterdir() if p.name[0] not in "._"
    }
    assert parts <= BELOW.keys()


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("headrace/codec/predict.py", "from headrace.client import Client"),
        ("headrace/codec/predict.py", "from headrace import Client"),
        ("headrace/codec/predict.py", "from headrace import server"),
        ("headrace/codec/predict.py", "import requests"),
        ("headrace/client/core.py", "import headrace.server.core"),
        ("headrace/client/core.py", "from ..server import core"),
        ("headrace/client/__init__.py", "from ..server import core"),
        ("headrace/server/core.py", "def f():\n    from headrace.client import rest"),
        ("headrace/server/core.py", "from gateway import app"),
        ("headrace/server/core.py", "from headrace import cli"),
        ("headrace/server/engines/litert.py", "import tensorflow as tf"),
        ("headrace/doctor.py", "import trainer"),
        ("gateway/app.py", "from trainer.zoo import mnist_cnn"),
        ("gateway/app.py", "from headrace.server import core"),
        ("gateway/app.py", "from keras import layers"),
        ("gateway/app.py", "from headrace import server"),
        ("trainer/exports/savedmodel.py", "import gateway.core"),
        ("deploy/local/up.py", "import tensorflow"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, code: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code + "\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("headrace/client/core.py", "from headrace.codec import predict\nimport requests"),
        ("gateway/app.py", "from headrace import Client, __version__"),
        (
            "trainer/exports/savedmodel.py",
            "import tensorflow as tf\nfrom headrace.server import Server",
        ),
        ("headrace/cli/__init__.py", "from headrace import client, doctor, server"),
        ("headrace/__init__.py", "from headrace.client import Client"),
    ],
)
def test_an_import_downwards_is_fine(tmp_path: Path, file: str, code: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code + "\n")
    assert violations(tmp_path) == []


def test_gateway_and_server_run_without_importing_tensorflow() -> None:
    code = (
        "import sys, gateway.app, headrace.server\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras')))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (child.stdout.strip(), child.returncode) == ("[]", 0), child.stderr
