"""What goes wrong with one model, a broken zoo file or a full disk, is said in a sentence, and the
others go on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.store import folders
from tests.forks import ForkServer
from tests.unit import warm
from tests.unit.toy import CONFIG, environment, export, trainer
from trainer import cli, disk, zoo

BROKEN = {
    "unfinished": (
        "def f(:\n",
        "cannot be imported: SyntaxError: invalid syntax (unfinished.py, line 1)",
    ),
    "misses": (
        "import os\nimport no_such_module\n",
        "misses.py:2 cannot be imported: ModuleNotFoundError: No module",
    ),
    "ends": ("raise SystemExit('no')\n", "ends.py:1 cannot be imported: SystemExit: no"),
    "empty": ("", "trainer/zoo/empty.py has no ENTRY"),
    "misnamed": (
        "from trainer.zoo.half_plus_two import ENTRY\n",
        "its ENTRY is named 'half_plus_two', expected 'misnamed'",
    ),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo that has these files too, and a list that names one of them; no data can be fetched."""
    more = tmp_path / "zoo"
    more.mkdir()
    for name, (text, _) in BROKEN.items():
        (more / f"{name}.py").write_text(text)
    entry = (
        'config {{ name: "unfinished" base_path: "/models/unfinished" model_platform: '
        '"tensorflow" }}\n}}'
    )
    (tmp_path / "multimodel.config").write_text(
        CONFIG.removesuffix("}}\n").join(("", entry)).format(policy="")
    )
    monkeypatch.setattr(zoo, "__path__", [*zoo.__path__, str(more)])
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_list_names_broken_zoo_files_and_shows_the_others(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, (_, reason) in BROKEN.items():
        assert reason in rows[name]
    assert rows["half_plus_two"].split() == ["half_plus_two", "none", "-", "nothing", "-"]


def test_training_names_broken_zoo_files_and_tries_the_others(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *BROKEN, "linear_model"]) == 1
    said = capsys.readouterr().err
    for name, (_, reason) in BROKEN.items():
        assert f"error: {name}: " in said and reason in said
    assert "error: linear_model: vega_datasets 0.9.0 could not be fetched" in said
    assert "Traceback" not in said


def test_ensure_and_data_name_a_broken_zoo_file_and_go_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(place, "publish", "known", export(place / "ready"))
    assert cli.main(["ensure"]) == 0
    said = capsys.readouterr()
    assert (
        "error: unfinished: trainer/zoo/unfinished.py cannot be imported: SyntaxError" in said.err
    )
    assert "still without a version: linear_model, unfinished" in said.out
    assert cli.main(["data", "list"]) == 1
    said = capsys.readouterr()
    assert "FAIL      trainer/zoo/unfinished.py cannot" in said.out and "vega_datasets" in said.out


def test_a_zoo_file_that_fails_while_it_trains_is_told_with_its_stack(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "from dataclasses import replace\nfrom trainer.zoo import half_plus_two\n"
    text += "ENTRY = replace(half_plus_two.ENTRY, name='fails', load=lambda want: 1 / 0)\n"
    (place / "zoo" / "fails.py").write_text(text)
    assert cli.main(["train", "fails", "linear_model"]) == 1
    said = capsys.readouterr().err
    assert "ENTRY = replace(" in said  # of the stack
    assert "error: fails: ZeroDivisionError: division by zero" in said
    assert "error: linear_model: vega_datasets" in said


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


TRAIN = "import sys; from trainer import cli; sys.exit(cli.main(sys.argv[1:]))"


@pytest.mark.parametrize(
    "size",
    [
        "4k",
        pytest.param("16k", marks=pytest.mark.long),
        pytest.param("36k", marks=pytest.mark.long),
    ],
    ids=["variables", "graph", "card"],
)
def test_a_full_disk_is_told_in_a_sentence_and_the_other_models_are_trained(
    tmp_path: Path, size: str, with_tensorflow: ForkServer
) -> None:
    """TensorFlow finds it full, or Python does."""
    given = {**os.environ, **warm.environment(tmp_path / "place")}
    models = tmp_path / "place" / "models"
    with small_disk(models / "half_plus_two", size):
        words = ("train", "half_plus_two", "linear_model", "--quick", "--epochs", "1", "--force")
        done = with_tensorflow.run(TRAIN, *words, environ=given)
        assert [path.name for path in (models / "half_plus_two").iterdir()] == [".lock"]
    assert done.returncode == 1, done.stdout + done.stderr
    (told,) = (line for line in done.stderr.splitlines() if "epoch" not in line)
    assert told.startswith("error: half_plus_two: no room to write ") and told.endswith(
        ": No space left on device"
    )
    assert folders.versions(models / "linear_model") == (1,)


@pytest.mark.long
def test_a_full_cache_is_named(tmp_path: Path, with_tensorflow: ForkServer) -> None:
    given = {**os.environ, **warm.environment(tmp_path / "place")}
    with small_disk(tmp_path / "place" / "runs", "8k"):
        done = with_tensorflow.run(
            TRAIN, "train", "linear_model", "--quick", "--epochs", "1", environ=given
        )
    assert done.returncode == 1
    assert (
        "error: linear_model: no room to write in " in done.stderr
        and "Traceback" not in done.stderr
    )


def test_what_came_of_a_full_disk_is_one_too(tmp_path: Path) -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise ValueError("Can't close the ZIP file while there is an open writing handle on it")
    except ValueError as error:
        assert (
            disk.full(error, tmp_path) == f"no room to write in {tmp_path}: No space left on device"
        )
    assert (
        disk.full(OSError(errno.EDQUOT, "quota", "/a/b"), tmp_path)
        == "no room to write /a/b: Disk quota exceeded"
    )
    assert disk.full(OSError(errno.EACCES, "no"), tmp_path) is None
    assert disk.full(ValueError("No space left on device"), tmp_path) is None
