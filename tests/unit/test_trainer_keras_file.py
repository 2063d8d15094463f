"""What Keras saved is published and answers in the server's engine as in Keras, or says what a
person must write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.store import card, golden
from tests.forks import ForkServer
from tests.unit.toy import CONFIG, environment, trainer
from trainer import child, cli

_SAVE = """
import json, sys
from pathlib import Path
import keras, numpy as np

folder = Path(sys.argv[1])
keras.utils.set_random_seed(1)
layers = keras.layers
ids, size = keras.Input((3,), dtype="int32", name="ids"), keras.Input((2,), name="size")
found = layers.Flatten()(layers.Embedding(5, 2)(ids))
outputs = {"near": layers.Dense(2)(found), "far": layers.Dense(1)(size)}
named = keras.Model({"ids": ids, "size": size}, outputs)
inputs = {
    "ids": np.array([[0, 1, 2], [4, 3, 2]], "int32"),
    "size": np.array([[1, 2], [-3, 4]], "float32"),
}
answers = {alias: np.asarray(value).tolist() for alias, value in named(inputs).items()}
chain = keras.Sequential(
    [keras.Input((2,), name="x"), layers.BatchNormalization(), layers.Dense(2, activation="tanh")]
)
answers["output_0"] = np.asarray(chain(inputs["size"])).tolist()
(folder / "answers.json").write_text(json.dumps(answers))

words = layers.TextVectorization(max_tokens=9, output_sequence_length=3)
words.adapt(["to be or", "not to be"])
text = keras.Sequential([keras.Input((1,), dtype="string", name="text"), words])

@keras.saving.register_keras_serializable("mine")
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x

custom = keras.Sequential([keras.Input((2,)), Doubled()])
code = keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: 2 * x)])
models = {"named": named, "chain": chain, "text": text, "custom": custom, "code": code}
for name, model in models.items():
    for suffix in ("keras", "h5"):
        model.save(folder / f"{name}.{suffix}")
keras.Sequential([layers.Dense(1)]).save(folder / "unbuilt.keras")
"""
_CHILD = "import sys; from trainer.exports import keras_file; keras_file.main(*sys.argv[1:])"


@pytest.fixture(scope="module")
def saved(with_tensorflow: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    done = with_tensorflow.run(_SAVE, str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_tensorflow: ForkServer) -> Path:
    """A store. The child that exports is forked from one that has imported TensorFlow."""
    start = child.run

    def run(module: str, *arguments: str | Path) -> child.Ended:
        if module != "trainer.exports.keras_file":
            return start(module, *arguments)
        done = with_tensorflow.run(_CHILD, *map(str, arguments))
        return child.Ended(done.stdout, done.stderr if done.returncode else None)

    monkeypatch.setattr(child, "run", run)
    (tmp_path / "multimodel.config").write_text(CONFIG.format(policy=""))
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def answer(version: Path, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, Any]:
    model = TensorFlowEngine().load(version)
    try:
        found = model.run(model.signatures["serving_default"], inputs, outputs)
    finally:
        model.close()
    return {alias: array.tolist() for alias, array in found.items()}


IDS, SIZE = np.array([[0, 1, 2], [4, 3, 2]], np.int32), np.array([[1, 2], [-3, 4]], np.float32)


@pytest.mark.parametrize("suffix", ["keras", pytest.param("h5", marks=pytest.mark.long)])
def test_named_inputs_and_outputs_keep_their_names_and_answers(
    suffix: str, saved: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved / f"named.{suffix}"
    assert cli.main(["publish", "known", str(file)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert (
        f"  exported from {file}\n  warm-up requests made from the golden ones, for "
        "serving_default\n" in said
    )
    assert "  pass  golden answers of serving_default: within 0.0001" in said
    version = place / "models" / "known" / "1"
    wanted = json.loads((saved / "answers.json").read_text())
    found = answer(version, {"ids": IDS, "size": SIZE}, ["near", "far"])
    for alias in ("near", "far"):
        np.testing.assert_allclose(found[alias], wanted[alias], rtol=1e-4, atol=1e-5)
    made = card.read(version)
    assert made["exported"]["from"] == f"named.{suffix}" and len(made["exported"]["sha256"]) == 64
    assert "claimed" not in made


@pytest.mark.parametrize("suffix", ["h5", pytest.param("keras", marks=pytest.mark.long)])
def test_an_output_without_a_name_is_output_0(suffix: str, saved: Path, place: Path) -> None:
    assert cli.main(["publish", "known", str(saved / f"chain.{suffix}")]) == 0
    found = answer(place / "models" / "known" / "1", {"x": SIZE}, ["output_0"])
    wanted = json.loads((saved / "answers.json").read_text())["output_0"]
    np.testing.assert_allclose(found["output_0"], wanted, rtol=1e-4, atol=1e-5)


def test_a_vocabulary_comes_along(saved: Path, place: Path) -> None:
    assert cli.main(["publish", "known", str(saved / "text.keras")]) == 0
    version = place / "models" / "known" / "1"
    found = answer(version, {"text": np.array([[b"to be"], [b"never to"]], object)}, ["output_0"])
    to, be = found["output_0"][0][:2]
    assert {to, be} == {2, 3} and found["output_0"][1] == [1, to, 0]
    assert golden.read(version)[0].inputs == {"text": [[{"b64": "YQ=="}], [{"b64": "YQ=="}]]}


@pytest.mark.parametrize(
    ("file", "reason", "line"),
    [
        (
            "custom.keras",
            "Could not locate class 'Doubled'",
            'custom_objects={"Doubled": Doubled})',
        ),
        ("custom.h5", "Unknown layer: 'mine>Doubled'", 'custom_objects={"Doubled": Doubled})'),
        ("code.keras", "`function` is a Python lambda", "safe_mode=False)  # runs its code"),
        ("code.h5", "`function` is a Python lambda", "safe_mode=False)  # runs its code"),
        ("text.h5", "lack what the file does not hold, a vocabulary say", "model.load_weights("),
        ("unbuilt.keras", "it was saved before its inputs were known", "model.load_weights("),
    ],
)
def test_what_needs_its_authors_code_says_what_to_write(
    file: str, reason: str, line: str, saved: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["publish", "known", str(saved / file)]) == 2
    said = capsys.readouterr().err
    assert f"{file} cannot be exported without its author's code: " in said and reason in said
    assert line in said and '\n    model.export("exported")\n' in said
    assert [path.name for path in (place / "models" / "known").iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_damaged_keras_file_is_told(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / name).write_bytes(b"half")
    assert cli.main(["publish", "known", str(place / name)]) == 2
    assert f"{name} is not a Keras model, or not whole: expected " in capsys.readouterr().err


@pytest.mark.long
def test_the_command_line_needs_no_help(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "multimodel.config").write_text(CONFIG.format(policy=""))
    done = trainer(tmp_path, "publish", "known", saved / "named.keras")
    assert done.returncode == 0, done.stderr
    assert "known version 1 published" in done.stdout
