"""A ready export goes through the gate into the store without TensorFlow, or stays out of it with a reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.wire import messages, store
from trainer import card, gate, verify

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = [{"signature_name": "serving_default", "inputs": {"x": [1.0, 2.0]}, "outputs": {"y": [2.5, 3.0]}}]
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


def export(folder: Path, *, golden: Any = GOLDEN) -> Path:
    """y = 0.5 x + 2 as a SavedModel of five nodes, written without TensorFlow."""
    shape = messages.AttrValue()
    shape.shape.dim.add(size=-1)
    saved = messages.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    graph = meta.graph_def
    graph.versions.producer = 27
    node(graph, "x", "Placeholder", shape=shape)
    node(graph, "half", "Const", value=constant(0.5))
    node(graph, "two", "Const", value=constant(2.0))
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


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store, a config and an empty cache that no network fills."""
    (tmp_path / "multimodel.config").write_text(CONFIG.format(policy=""))
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HEADRACE_STORE": str(place / "models"),
        "HEADRACE_CONFIG": str(place / "multimodel.config"),
        "HEADRACE_CACHE": str(place / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
    }


def command(*arguments: str | Path) -> list[str]:
    """The CLI in a child that fails when TensorFlow was imported."""
    script = "import sys; from trainer.cli import main; code = main(sys.argv[1:]); "
    script += "sys.exit(99 if 'tensorflow' in sys.modules else code)"
    return [sys.executable, "-c", script, *map(str, arguments)]


def trainer(place: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, env=environment(place), capture_output=True, text=True)


def test_a_ready_export_is_published_checked_and_live(place: Path) -> None:
    done = trainer(place, "publish", "known", export(place / "ready"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "  pass  files: 2 files",
        "  pass  loads in the server's engine: signatures: serving_default",
        "  pass  golden answers of serving_default: within 0",
        f"known version 1 published in {place}/models/known/1: no figures on its card",
    ]
    version = place / "models" / "known" / "1"
    assert store.is_complete(version)
    live = (place / "models" / "multimodel.config").read_text()
    assert '"known"' in live and '"linear_model"' not in live
    assert card.read(version)["files"] == card.checksums(version)


def test_a_second_version_names_its_parent(place: Path) -> None:
    ready = export(place / "ready")
    trainer(place, "publish", "known", ready)
    assert trainer(place, "publish", "known", ready).returncode == 0
    assert card.read(place / "models" / "known" / "1")["parent"] is None
    assert card.read(place / "models" / "known" / "2")["parent"] == 1


def test_two_publishers_at_once_get_two_numbers(place: Path) -> None:
    ready = export(place / "ready")
    both = [
        subprocess.Popen(
            command("publish", "known", ready), cwd=ROOT, env=environment(place), stdout=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [child.wait(60) for child in both] == [0, 0]
    assert store.versions(place / "models" / "known") == (1, 2)


def wrong_answer(ready: Path) -> None:
    (ready / "assets.extra" / "golden.json").write_text(json.dumps([{**GOLDEN[0], "outputs": {"y": [2.5, 3.5]}}]))


def unknown_output(ready: Path) -> None:
    (ready / "assets.extra" / "golden.json").write_text(json.dumps([{**GOLDEN[0], "outputs": {"z": [2.5, 3.0]}}]))


def broken_promise(ready: Path) -> None:
    promise = {"serving_default": {"inputs": {"x": "float [-1,2]"}, "outputs": {"y": "float [-1]"}}}
    (ready / "assets.extra" / "card.json").write_text(json.dumps({"signatures": promise}))


def cut_off(ready: Path) -> None:
    whole = (ready / "saved_model.pb").read_bytes()
    (ready / "saved_model.pb").write_bytes(whole[: len(whole) // 2])


def missing_operation(ready: Path) -> None:
    whole = (ready / "saved_model.pb").read_bytes()
    (ready / "saved_model.pb").write_bytes(whole.replace(b"AddV2", b"AddV9"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (wrong_answer, "golden answers of serving_default: y off by 0.5"),
        (unknown_output, "golden answers of serving_default: z is not in the signature"),
        (broken_promise, "signatures as promised: serving_default has inputs {'x': 'float [-1]'}, promised"),
        (cut_off, "loads in the server's engine: "),
        (missing_operation, "loads in the server's engine: Op type not registered 'AddV9'"),
    ],
)
def test_the_gate_refuses_with_a_reason(place: Path, damage: Callable[[Path], None], reason: str) -> None:
    ready = export(place / "ready")
    damage(ready)
    done = trainer(place, "publish", "known", ready)
    assert done.returncode == 3
    assert f"error: known was not published: {reason}" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (place / "models" / "known").iterdir()] == [".lock"]


def test_files_that_are_not_those_of_the_card_are_found(tmp_path: Path) -> None:
    folder = export(tmp_path / "ready")
    card.write({"files": card.checksums(folder)}, folder)
    (folder / "assets.extra" / "golden.json").write_text("[]")
    assert [check.told for check in verify.verify(folder) if check.refuses] == [
        "not as on the card: assets.extra/golden.json"
    ]


def test_an_export_that_is_not_what_its_card_says_is_refused(place: Path) -> None:
    trainer(place, "publish", "known", export(place / "ready"))
    version = place / "models" / "known" / "1"
    assert trainer(place, "publish", "known", version).returncode == 0
    (version / "assets.extra" / "golden.json").write_text("[]")
    done = trainer(place, "publish", "known", version)
    assert done.returncode == 3
    assert "not as on the card it brought: assets.extra/golden.json" in done.stderr
    assert store.versions(place / "models" / "known") == (1, 2)


def test_a_model_that_ends_its_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\necho 'a check failed in a kernel' >&2\nkill -ABRT $$\n")
    dies.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dies))
    (found,) = gate.check(tmp_path)
    assert found.refuses
    assert found.told == "the process that ran the model died of SIGABRT: a check failed in a kernel"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["publish", "known", "{place}/nothing"], 2, "is not a SavedModel"),
        (["publish", "../known", "{place}/ready"], 2, "'../known' is no name for a model"),
        (["train", "nope"], 2, "no model 'nope' in the zoo"),
        (["train", "linear_model", "--epochs", "0"], 2, "'0' is not a whole number of at least 1"),
        (["train", "linear_model", "--learning-rate", "nan"], 2, "'nan' is not a number above 0"),
        (["train", "linear_model"], 4, "linear_model: vega_datasets 0.9.0 could not be fetched: pip: "),
    ],
    ids=["no export", "a path as name", "unknown model", "no epochs", "no rate", "no data"],
)
def test_what_cannot_be_done_is_said_in_a_sentence(place: Path, arguments: list[str], code: int, said: str) -> None:
    export(place / "ready")
    done = trainer(place, *(argument.format(place=place) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_config_is_told_before_anything_is_done(place: Path) -> None:
    (place / "multimodel.config").write_text("model_config_list {\n  config { nam: 1 }\n}\n")
    for verb in (["train", "half_plus_two"], ["ensure"], ["list"], ["publish", "known", str(export(place / "ready"))]):
        done = trainer(place, *verb)
        assert done.returncode == 2
        assert "multimodel.config:2:12: " in done.stderr
    assert not (place / "models").exists()


def test_ensure_stands_on_one_model_and_names_the_others(place: Path) -> None:
    trainer(place, "publish", "known", export(place / "ready"))
    done = trainer(place, "ensure")
    assert done.returncode == 0, done.stderr
    assert "known: version 1 is there" in done.stdout
    assert "still without a version: linear_model" in done.stdout
    assert "linear_model: vega_datasets 0.9.0 could not be fetched" in done.stderr


def test_ensure_without_any_version_fails(place: Path) -> None:
    done = trainer(place, "ensure")
    assert done.returncode == 4
    assert "still without a version: known, linear_model" in done.stdout
    assert "python -m trainer publish known FOLDER" in done.stdout


def test_a_version_that_is_not_live_says_so(place: Path) -> None:
    ready = export(place / "ready")
    assert "unknown is not live: add it to" in trainer(place, "publish", "unknown", ready).stdout
    pinned = CONFIG.format(policy="model_version_policy { specific { versions: 7 } }")
    (place / "multimodel.config").write_text(pinned)
    assert "known is not live: " in trainer(place, "publish", "known", ready).stdout


def test_list_shows_versions_needs_and_figures(place: Path) -> None:
    done = trainer(place, "list")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["linear_model"] == ["linear_model", "none", "vega_datasets", "0.9.0", "-"]
    assert rows["half_plus_two"] == ["half_plus_two", "none", "nothing", "-"]


def test_help_is_free_of_tensorflow(place: Path) -> None:
    script = "import sys\nfrom trainer.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n"
    script += "    sys.exit(99 if 'tensorflow' in sys.modules else end.code)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


KILLED = """
import os, signal, sys
from trainer.cli import main
at, seen = int(sys.argv[1]), 0
def hook(event, args):
    global seen
    if event.startswith(("os.", "fcntl.", "shutil.", "subprocess.")):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
main(sys.argv[2:])
print(seen)
"""


def test_a_killed_publish_never_shows_a_partial_or_unchecked_version(place: Path) -> None:
    ready = export(place / "ready")

    def publish(kill_at: int) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", KILLED, str(kill_at), "publish", "known", str(ready)]
        return subprocess.run(line, cwd=ROOT, env=environment(place), capture_output=True, text=True)

    steps = int(publish(0).stdout.splitlines()[-1])
    assert steps >= 6
    for point in range(2, steps + 1, max(1, steps // 6)):
        killed = publish(point)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        model = place / "models" / "known"
        for version in store.versions(model):
            made = card.read(model / str(version))
            assert made["files"] == card.checksums(model / str(version))
            assert made["checks"] and all(check["passed"] for check in made["checks"])
