"""A ready export goes through the gate into the store without TensorFlow, or stays out of it with a
reason."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol import messages, tensors
from headrace.server.lifecycle.warmup import FILE as WARMUP
from headrace.store import card, folders, model_list, records
from tests.unit.toy import CONFIG, GOLDEN, ROOT, command, environment, export, trainer
from tests.unit.warm import WarmTrainer
from trainer import cli, publish, zoo
from trainer.data.archive import Archive
from trainer.entry import LoadRequest, Split
from trainer.errors import Refused
from trainer.exports import gate, new_card, verify
from trainer.settings import Settings


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store, a config and an empty cache that no network fills."""
    (tmp_path / "multimodel.config").write_text(CONFIG.format(policy=""))
    return tmp_path


def test_a_ready_export_is_published_checked_and_live(place: Path) -> None:
    done = trainer(place, "publish", "known", export(place / "ready"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "  warm-up requests made from the golden ones, for serving_default",
        "  pass  files: 3 files",
        "  pass  loads in the server's engine: signatures: serving_default",
        "  pass  golden answers of serving_default: within 0",
        "  pass  row-wise, so batched: serving_default yes",
        f"known version 1 published in {place}/models/known/1: no figures on its card",
    ]
    version = place / "models" / "known" / "1"
    assert folders.is_complete(version)
    live = (place / "models" / "multimodel.config").read_text()
    assert '"known"' in live and '"linear_model"' not in live
    assert card.read(version)["files"] == card.checksums(version)


def test_a_ready_export_is_warmed_up_by_the_golden_requests_it_brought(place: Path) -> None:
    trainer(place, "publish", "known", export(place / "ready"))
    with (place / "models" / "known" / "1" / WARMUP).open("rb") as file:
        (log,) = (messages.PredictionLog.FromString(record) for record in records.read(file))
    request = log.predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == (
        "known",
        "serving_default",
    )
    assert tensors.from_proto(request.inputs["x"]).tolist() == [1.0, 2.0]


def test_a_warm_up_that_was_brought_stays_and_one_is_never_made_up(place: Path) -> None:
    without = trainer(place, "publish", "known", export(place / "ready", golden=[]))
    assert "no warm-up: the export brought no golden requests" in without.stdout
    assert not (place / "models" / "known" / "1" / WARMUP).exists()
    own = export(place / "own")
    (own / WARMUP).write_bytes(b"")
    assert "warm-up requests were brought" in trainer(place, "publish", "known", own).stdout
    assert (place / "models" / "known" / "2" / WARMUP).read_bytes() == b""


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
            command("publish", "known", ready),
            cwd=ROOT,
            env=environment(place),
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [child.wait(60) for child in both] == [0, 0]
    assert folders.versions(place / "models" / "known") == (1, 2)


def wrong_answer(ready: Path) -> None:
    (ready / "assets.extra" / "golden.json").write_text(
        json.dumps([{**GOLDEN[0], "outputs": {"y": [2.5, 3.5]}}])
    )


def unknown_output(ready: Path) -> None:
    (ready / "assets.extra" / "golden.json").write_text(
        json.dumps([{**GOLDEN[0], "outputs": {"z": [2.5, 3.0]}}])
    )


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
        (
            broken_promise,
            "signatures as promised: serving_default has inputs {'x': 'float [-1]'}, promised",
        ),
        (cut_off, "loads in the server's engine: "),
        (missing_operation, "loads in the server's engine: Op type not registered 'AddV9'"),
    ],
)
def test_the_gate_refuses_with_a_reason(
    place: Path, damage: Callable[[Path], None], reason: str
) -> None:
    ready = export(place / "ready")
    damage(ready)
    done = trainer(place, "publish", "known", ready)
    assert done.returncode == 3
    assert f"error: known was not published: {reason}" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (place / "models" / "known").iterdir()] == [".lock"]


def test_files_that_are_not_those_of_the_card_are_found(tmp_path: Path) -> None:
    folder = export(tmp_path / "ready")
    new_card.write({"files": card.checksums(folder)}, folder)
    (folder / "assets.extra" / "golden.json").write_text("[]")
    assert [check.detail for check in verify.verify(folder) if check.refuses] == [
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
    assert folders.versions(place / "models" / "known") == (1, 2)


def test_a_model_that_ends_its_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\necho 'a check failed in a kernel' >&2\nkill -ABRT $$\n")
    dies.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dies))
    (found,) = gate.check(tmp_path)
    assert found.refuses
    assert (
        found.detail == "the process that ran the model died of SIGABRT: a check failed in a kernel"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["publish", "known", "{place}/nothing"], 2, "nothing does not exist"),
        (["publish", "known", "{place}/models.keras"], 2, "models.keras does not exist"),
        (["publish", "known", "{place}"], 2, "is not a SavedModel: no saved_model.pb yet"),
        (
            ["publish", "known", "{place}/multimodel.config"],
            2,
            "is a file, expected the folder of a SavedModel, or",
        ),
        (["publish", "../known", "{place}/ready"], 2, "'../known' is not a name for a model"),
        (["gc", "../models/known"], 2, "'../models/known' is not a name for a model"),
        (["show", ".."], 2, "'..' is not a name for a model"),
        (["train", "nope"], 2, "no model 'nope' in the zoo"),
        (["train", "linear_model", "--epochs", "0"], 2, "'0' is not a whole number of at least 1"),
        (["train", "linear_model", "--learning-rate", "nan"], 2, "'nan' is not a number above 0"),
        (
            ["train", "linear_model"],
            4,
            "linear_model: vega_datasets 0.9.0 could not be fetched: pip: ",
        ),
    ],
    ids=[
        "no path",
        "no Keras file",
        "no SavedModel",
        "another file",
        "a path as name",
        "gc of a path",
        "show of a path",
        "unknown model",
        "no epochs",
        "no rate",
        "no data",
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    place: Path, arguments: list[str], code: int, said: str
) -> None:
    export(place / "ready")
    done = trainer(place, *(argument.format(place=place) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_config_is_told_before_anything_is_done(place: Path) -> None:
    (place / "multimodel.config").write_text("model_config_list {\n  config { nam: 1 }\n}\n")
    for verb in (
        ["train", "half_plus_two"],
        ["ensure"],
        ["list"],
        ["publish", "known", str(export(place / "ready"))],
    ):
        done = trainer(place, *verb)
        assert done.returncode == 2
        assert "multimodel.config:2:12: " in done.stderr
    assert not (place / "models").exists()


def test_a_blank_config_takes_nothing_away(place: Path) -> None:
    ready = export(place / "ready")
    for _ in range(2):
        assert trainer(place, "publish", "known", ready).returncode == 0
    live = (place / "models" / "multimodel.config").read_text()
    (place / "multimodel.config").write_text("")
    for words in (
        ("publish", "known", ready),
        ("ensure",),
        ("promote", "known"),
        ("rollback", "known"),
        ("list",),
    ):
        done = trainer(place, *words)
        assert done.returncode == 2, words
        assert "multimodel.config:1:1: no model_config_list: the file is empty" in done.stderr
    assert (place / "models" / "multimodel.config").read_text() == live
    assert folders.versions(place / "models" / "known") == (1, 2)


def test_publishing_names_the_models_that_were_taken_out_of_the_list(place: Path) -> None:
    ready = export(place / "ready")
    trainer(place, "publish", "known", ready)
    (place / "multimodel.config").write_text("model_config_list {}")
    done = trainer(place, "publish", "other", ready)
    assert done.returncode == 0, done.stderr
    assert "no longer served, not in the list of models: known" in done.stdout


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


def test_a_model_without_its_data_is_named_and_the_rest_go_on(
    place: Path, warm: WarmTrainer
) -> None:
    done = warm.call(place, "train", "linear_model", "half_plus_two", environ=environment(place))
    assert done.returncode == 4
    assert "error: linear_model: vega_datasets 0.9.0 could not be fetched" in done.stderr
    assert "half_plus_two version 1 published" in done.stdout
    assert not (place / "models" / "linear_model").exists()


@pytest.fixture
def without_npm(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of two whose data come through npm, on a machine that has none."""
    archive = Archive(
        "rows", "1.0.0", "rows-1.0.0.tgz", "0" * 64, "package/rows.csv", "none", "npm"
    )

    def load(want: LoadRequest) -> Split:
        archive.read(want.cache)
        raise AssertionError("its data cannot be here")

    entries = {
        name: replace(zoo.find("linear_model"), name=name, data=(archive,), load=load)
        for name in ("linear_model", "other")
    }
    monkeypatch.setattr(zoo, "names", lambda: tuple(entries))
    monkeypatch.setattr(zoo, "find", entries.__getitem__)
    for name, value in {**environment(place), "PATH": str(place / "nothing")}.items():
        monkeypatch.setenv(name, value)
    return place


def test_train_names_each_model_whose_tool_is_missing(
    without_npm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--all"]) == 4
    said = capsys.readouterr().err
    for name in ("linear_model", "other"):
        assert f"error: {name}: rows 1.0.0 comes through npm, which is not installed here" in said


def test_ensure_stands_without_a_model_whose_tool_is_missing(
    without_npm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ensure"]) == 4  # nothing has a version yet
    trainer(without_npm, "publish", "known", export(without_npm / "ready"))
    capsys.readouterr()
    assert cli.main(["ensure"]) == 0
    said = capsys.readouterr()
    assert "comes through npm, which is not installed here" in said.err
    assert "still without a version: linear_model" in said.out
    assert '"known"' in (without_npm / "models" / "multimodel.config").read_text()


def test_a_version_that_is_not_live_says_so(place: Path) -> None:
    ready = export(place / "ready")
    assert "unknown is not live: add it to" in trainer(place, "publish", "unknown", ready).stdout
    pinned = CONFIG.format(policy="model_version_policy { specific { versions: 7 } }")
    (place / "multimodel.config").write_text(pinned)
    assert "known is not live: " in trainer(place, "publish", "known", ready).stdout


def test_reload_warns_of_a_label_on_a_version_that_is_not_served(place: Path) -> None:
    trainer(place, "publish", "known", export(place / "ready"))
    labelled = CONFIG.format(policy='version_labels { key: "old" value: 7 }')
    (place / "multimodel.config").write_text(labelled)
    done = trainer(place, "reload")
    assert (
        "warning: known: the label 'old' is on version 7, which is not there; served: 1"
        in done.stdout
    )
    assert done.returncode != 0  # nobody serves here


def test_list_shows_versions_needs_and_figures(place: Path) -> None:
    done = trainer(place, "list")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["linear_model"] == ["linear_model", "none", "-", "vega_datasets", "0.9.0", "-"]
    assert rows["half_plus_two"] == ["half_plus_two", "none", "-", "nothing", "-"]
    assert rows["known"] == ["known", "none", "-", "-", "-"]


def test_help_is_free_of_tensorflow(place: Path) -> None:
    script = (
        "import sys\nfrom trainer.cli import main\ntry:\n    main(['--help'])\nexcept "
        "SystemExit as end:\n"
    )
    script += "    sys.exit(99 if 'tensorflow' in sys.modules else end.code)"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )


def no_partial_version_after_kills(place: Path, count: int) -> None:
    """Python reports every opening, making and renaming of a file before it is done; at one of them
    it is killed."""
    ready = export(place / "ready")
    model = place / "models" / "known"
    steps = int(trainer(place, "publish", "known", ready, kill_at=0).stdout.splitlines()[-1])
    seed = random.randrange(1 << 32)
    points = random.Random(seed)
    for number in range(count):
        # The last steps are where the version appears: every other kill falls on one of them.
        point = points.randint(1 if number % 2 else max(1, steps - 40), steps)
        killed = trainer(place, "publish", "known", ready, kill_at=point)
        assert killed.returncode == -signal.SIGKILL, (
            f"seed {seed}, step {point} of {steps}: {killed.stderr}"
        )
        for version in folders.versions(model):
            made, where = (
                card.read(model / str(version)),
                f"seed {seed}, killed at step {point} of {steps}",
            )
            assert folders.is_complete(model / str(version)), where
            assert made["files"] == card.checksums(model / str(version)), where
            assert made["checks"] and all(check["passed"] for check in made["checks"]), where
        model_list.load(place / "models" / "multimodel.config")
    after = trainer(place, "publish", "known", ready)
    assert after.returncode == 0, after.stderr
    assert [path.name for path in model.iterdir() if path.name.startswith(".")] == [".lock"]


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.full)])
def test_a_publish_killed_at_random_points_shows_no_partial_or_unchecked_version(
    place: Path, count: int
) -> None:
    no_partial_version_after_kills(place, count)


def publish_measured(place: Path, value: float, *, force: bool = False, **more: Any) -> list[str]:
    """As a training does: with a figure that it measured, an error allowed to be 0.1 larger than
    the live one's."""
    metric = {
        "name": "mae",
        "value": value,
        "better": "lower",
        "max_regression": 0.1,
        "baseline": 9.0,
        "baseline_is": "the mean",
    }
    made = {
        "metric": {**metric, "wanted": "<= 9", "reached": True, "full_training_reaches": 1.0},
        **more,
    }
    told: list[str] = []

    def fill(folder: Path) -> card.Card:
        export(folder)
        return {"settings": {"are": "full"}, **made}

    settings = Settings(store=place / "models", config=place / "multimodel.config")
    publish.publish("known", settings, fill, tell=told.append, force=force)
    return told


def test_a_version_that_is_worse_than_the_live_one_is_refused(place: Path) -> None:
    publish_measured(place, 1.0)
    assert "  pass  mae against version 1: 1.1, live 1, may be 0.1 worse" in publish_measured(
        place, 1.1
    )
    with pytest.raises(
        Refused, match=r"known was not published: mae against version 2: 1.3, live 1.1, .*--force"
    ):
        publish_measured(place, 1.3)
    assert folders.versions(place / "models" / "known") == (1, 2)


def test_force_publishes_it_and_the_card_says_so(place: Path) -> None:
    publish_measured(place, 1.0)
    publish_measured(place, 2.0, force=True)
    assert card.read(place / "models" / "known" / "2")["forced"] == [
        "mae against version 1: 2, live 1, may be 0.1 worse"
    ]
    assert card.read(place / "models" / "known" / "1")["forced"] == []
    assert "forced     mae against version 1" in trainer(place, "show", "known", "2").stdout


def test_figures_of_other_rows_are_not_compared(place: Path) -> None:
    publish_measured(place, 1.0, data=[{"sha256": "a"}])
    told = publish_measured(place, 5.0, data=[{"sha256": "b"}])
    assert any("judged by other rows, so not compared" in line for line in told)


def test_what_a_card_that_was_brought_says_is_claimed_and_not_believed(place: Path) -> None:
    publish_measured(place, 1.0, figures={"mae": 1.0})
    ready = export(place / "ready")
    metric = {
        "name": "mae",
        "value": 0.0,
        "baseline": 9.0,
        "baseline_is": "the mean",
        "max_regression": 1e9,
    }
    claims = {
        "model": "other",
        "metric": metric,
        "settings": {"are": "full"},
        "checks": [],
        "forced": ["x"],
        "row_wise": 1,
    }
    new_card.write({**claims, "tolerance": 0.5}, ready)
    done = trainer(place, "publish", "known", ready)
    assert done.returncode == 0, done.stderr
    assert "mae against" not in done.stdout and "pass  mae" not in done.stdout
    assert "claimed, not checked here: mae 0 (the mean: 9)" in done.stdout
    made = card.read(place / "models" / "known" / "2")
    assert made["claimed"] == claims
    assert (made["model"], made["tolerance"], made["forced"], "metric" in made) == (
        "known",
        0.5,
        [],
        False,
    )
    assert "golden answers of serving_default" in {check["name"] for check in made["checks"]}
    shown = trainer(place, "show", "known", "2").stdout
    assert '  claimed    metric {"name": "mae", "value": 0.0' in shown
    assert "  checked    pass golden answers of serving_default: within 0.5" in shown
    own = trainer(place, "show", "known", "1").stdout
    assert (
        "  measured   mae 1, by the training here, on held-out rows" in own and "claimed" not in own
    )
    # The live version's figure is a claim now, which no training is held to.
    assert not any("mae against" in line for line in publish_measured(place, 5.0))


def another_contract(ready: Path) -> Path:
    """y is now found by two inputs, and is called z."""
    path = export(ready, golden=[]) / "saved_model.pb"
    saved = messages.SavedModel.FromString(path.read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    signature.inputs["more"].CopyFrom(signature.inputs["x"])
    signature.outputs["z"].CopyFrom(signature.outputs.pop("y"))
    path.write_bytes(saved.SerializeToString())
    return ready


def test_a_version_that_its_callers_cannot_call_is_refused_and_force_is_on_the_card(
    place: Path,
) -> None:
    told = (
        "callers of version 1: serving_default: input more is new and has no default; "
        "serving_default: output y is gone"
    )
    ready, other = export(place / "ready"), another_contract(place / "other")
    assert trainer(place, "publish", "known", ready).returncode == 0
    done = trainer(place, "publish", "known", other)
    assert done.returncode == 3
    assert f"error: known was not published: {told} (--force publishes it" in done.stderr
    assert folders.versions(place / "models" / "known") == (1,)
    forced = trainer(place, "publish", "known", other, "--force")
    assert forced.returncode == 0, forced.stderr
    assert f"known version 2 was forced: {told}" in forced.stdout
    assert card.read(place / "models" / "known" / "2")["forced"] == [told]
    back = trainer(place, "publish", "known", ready)
    assert (
        back.returncode == 3
        and "callers of version 2: serving_default: input more is gone" in back.stderr
    )
    trainer(place, "rollback", "known", "1")  # what is pinned is what callers call
    assert (
        "pass  callers of version 1: can call this one"
        in trainer(place, "publish", "known", ready).stdout
    )


@pytest.mark.parametrize(
    ("budget", "refusal"),
    [({"max_bytes": 100}, "size: "), ({"latency_ms": 1e-6}, "latency of serving_default: ")],
    ids=["size", "latency"],
)
def test_a_version_over_its_budget_is_refused(
    budget: dict[str, float], refusal: str, place: Path
) -> None:
    new_card.write({"budget": budget}, ready := export(place / "ready"))
    done = trainer(place, "publish", "known", ready)
    assert done.returncode == 3
    assert f"known was not published: {refusal}" in done.stderr


def test_what_no_server_could_load_cannot_be_forced(place: Path) -> None:
    ready = export(place / "ready")
    missing_operation(ready)
    done = trainer(place, "publish", "known", ready, "--force")
    assert done.returncode == 3
    assert "and this cannot be forced" in done.stderr


def test_a_signature_of_ours_without_an_example_is_refused(place: Path) -> None:
    ready = export(place / "ready", golden=[])
    promised = {"serving_default": {"inputs": {"x": "float [-1]"}, "outputs": {"y": "float [-1]"}}}
    new_card.write({"signatures": promised}, ready)
    done = trainer(place, "publish", "known", ready)
    assert (done.returncode, "examples: none for serving_default: not called" in done.stderr) == (
        3,
        True,
    )


def test_verify_finds_what_was_changed_since(place: Path) -> None:
    trainer(place, "publish", "known", export(place / "ready"))
    well = trainer(place, "verify", "known")
    assert (well.returncode, well.stdout.splitlines()[-1]) == (0, "known version 1 passes")
    (place / "models" / "known" / "1" / "assets.extra" / "golden.json").write_text("[]")
    changed = trainer(place, "verify", "known", "1")
    assert changed.returncode == 3
    assert (
        "known version 1 does not pass: files: not as on the card: assets.extra/golden.json"
        in changed.stderr
    )


# Everything is imported before the ids change: the interpreter's own files may be closed to others.
AS_SOMEBODY = """
import os, sys
from trainer.cli import main
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def test_a_foreign_store_says_whose_it_is() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        place = Path(folder)
        place.chmod(0o755)
        (place / "multimodel.config").write_text(CONFIG.format(policy=""))
        ready = export(place / "ready")
        (place / "models").mkdir(mode=0o555)
        line = [sys.executable, "-c", AS_SOMEBODY, "publish", "known", str(ready)]
        done = subprocess.run(
            line, cwd=ROOT, env=environment(place), capture_output=True, text=True
        )
        assert done.returncode == 1
        assert f"Permission denied; {place}/models belongs to uid {os.getuid()}" in done.stderr
        assert f"HEADRACE_UID={os.getuid()}" in done.stderr or os.getuid() != 0
        assert "Traceback" not in done.stderr
