"""headrace serve PATH: what is at the path, served as it is; and what is said of a base path that
holds no versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headrace.protocol.errors import HeadraceError
from headrace.protocol.version_policy import Specific
from headrace.server import Server, ServerConfig, paths
from headrace.store.model_list import ModelConfig, ServingConfig
from tests.live import LiveServer, until
from tests.unit.test_server_command import refuse


@pytest.fixture
def folder(contract_models: Path, tmp_path: Path) -> Path:
    """Of models: one with versions, one that is a SavedModel itself; and of other things."""
    models = tmp_path / "models"
    shutil.copytree(contract_models / "half_plus_two", models / "half_plus_two")
    shutil.copytree(contract_models / "half_plus_three" / "123", models / "bare")
    shutil.copytree(contract_models / "half_plus_three" / "123", models / ".hidden")
    (models / "notes").mkdir()
    (models / "multimodel.config").touch()
    return models


def test_a_folder_of_versions_is_one_model(folder: Path) -> None:
    base = folder / "half_plus_two"

    assert paths.serving_config(str(base)) == ServingConfig(
        (ModelConfig("half_plus_two", str(base)),)
    )


def test_a_saved_model_is_one_model(folder: Path) -> None:
    assert paths.serving_config(f"{folder}/notes/../bare").models == (
        ModelConfig("bare", str(folder / "bare")),
    )


def test_a_saved_model_among_versions_is_that_version(folder: Path) -> None:
    base = folder / "half_plus_two"

    assert paths.serving_config(str(base / "123")).models == (
        ModelConfig("half_plus_two", str(base), policy=Specific((123,))),
    )


def test_one_model_can_have_another_name(folder: Path) -> None:
    (model,) = paths.serving_config(str(folder / "bare"), model_name="mine").models

    assert (model.name, model.base_path) == ("mine", str(folder / "bare"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere", "nowhere does not exist; expected a folder of versions"),
        ("multimodel.config", "multimodel.config is no folder; expected a folder of versions"),
        ("notes", "notes holds no model; expected a folder of versions"),
    ],
)
def test_a_path_without_a_model_is_refused(folder: Path, path: str, reason: str) -> None:
    with pytest.raises(HeadraceError) as error:
        paths.serving_config(str(folder / path))

    assert reason in error.value.message


def test_several_models_have_no_other_name(folder: Path) -> None:
    with pytest.raises(HeadraceError, match="holds 2 models"):
        paths.serving_config(str(folder), model_name="mine")


def test_a_path_beside_a_config_is_refused(folder: Path) -> None:
    with pytest.raises(HeadraceError, match=f"the path {folder} goes without model_config_file"):
        Server(ServerConfig(path=str(folder), model_base_path="/x"))


def test_a_path_that_is_not_there_ends_the_start() -> None:
    assert "Error: NOT_FOUND: /nowhere does not exist; expected a folder of versions" in refuse(
        "/nowhere"
    )


def test_a_folder_of_models_is_served(launch: LiveServer.Launcher, folder: Path) -> None:
    server = launch(path=folder)
    server.wait_until_available("half_plus_two", "bare")

    assert server.predict("half_plus_two", {"instances": [2.0]}).json == {"predictions": [3.0]}
    assert server.predict("bare", {"instances": [2.0]}).json == {"predictions": [4.0]}
    assert server.states("bare") == {1: "AVAILABLE"}
    until(lambda: "Z INFO ready" in server.said(), 10)
    assert "Z WARNING" not in server.said()


def test_a_base_path_without_versions_is_warned_of_with_a_remedy(
    launch: LiveServer.Launcher, folder: Path
) -> None:
    names = ("bare", "nowhere", "half_plus_two", ".")
    entry = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
    config = folder / "multimodel.config"
    config.write_text(
        f"model_config_list {{ {''.join(entry.format(n, folder / n) for n in names)} }}"
    )

    server = launch(model_config_file=config)
    until(lambda: "ready, but" in server.said(), 10, server.said)

    warnings = [line for line in server.said().splitlines() if " WARNING " in line]
    bare, nowhere, models = folder / "bare", folder / "nowhere", folder
    assert any(
        f"{bare} is a SavedModel, not a folder of versions; move it to {bare}/1, or run" in w
        for w in warnings
    )
    assert any(
        f"{nowhere} does not exist; expected a folder with versions, such as {nowhere}/1" in w
        for w in warnings
    )
    assert any(
        f"(bare, half_plus_two); `headrace serve {models}` serves them" in w for w in warnings
    )
    assert "ready, but not with every model; why is above not_served=.,bare,nowhere" in warnings[-1]
