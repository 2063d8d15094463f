"""`data list`, `fetch` and `verify`: what models need is named, brought and checked; what is not to
be had is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.toy import CONFIG, trainer
from trainer import zoo
from trainer.data.archive import Archive

CARS = "vega_datasets-0.9.0-py3-none-any.whl"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store, a config and an empty cache that no network fills."""
    (tmp_path / "multimodel.config").write_text(CONFIG.format(policy=""))
    return tmp_path


def test_list_names_every_archive_with_its_models_hash_and_licence(place: Path) -> None:
    done = trainer(place, "data", "list")
    assert done.returncode == 0, done.stderr
    rows = [row for row in done.stdout.splitlines() if CARS in row]
    assert len(rows) == 1
    assert rows[0].startswith("not here  vega_datasets 0.9.0") and "for linear_model" in rows[0]
    assert "sha256 3d7c63917be6" in rows[0] and "CC BY 4.0" in rows[0]


def test_fetch_without_a_network_names_each_and_goes_on(place: Path) -> None:
    done = trainer(place, "data", "fetch", "linear_model", "titanic")
    assert done.returncode == 4
    failed = [row for row in done.stdout.splitlines() if row.startswith("FAIL")]
    assert len(failed) == 2
    assert all("could not be fetched: pip: " in row for row in failed)
    assert "Traceback" not in done.stderr


def test_verify_tells_what_is_missing_from_what_is_damaged(place: Path) -> None:
    (place / "cache" / "data").mkdir(parents=True)
    (place / "cache" / "data" / CARS).write_bytes(b"half of it")
    done = trainer(place, "data", "verify", "linear_model", "titanic")
    assert done.returncode == 4
    damaged, missing = done.stdout.splitlines()
    assert "its sha256 is not the pinned one" in damaged and CARS in damaged
    assert "it is not here" in missing


def test_an_unknown_model_is_named(place: Path) -> None:
    done = trainer(place, "data", "list", "nope")
    assert (done.returncode, "no model 'nope' in the zoo" in done.stderr) == (2, True)


def test_every_archive_of_the_zoo_is_pinned_and_has_a_licence() -> None:
    for name in zoo.names():
        entry = zoo.find(name)
        for each in (*entry.data, *entry.full_data):
            assert isinstance(each, Archive) and len(each.sha256) == 64 and each.licence, name
