"""Promote goes back to the policy that stood before a rollback, whatever it was; where none is
known, to the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import model_list
from tests.unit.toy import CONFIG, export, trainer
from trainer.settings import Settings
from trainer.store import promotion, saved_policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest()),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { all {} }", All()),
    ],
    ids=["none", "latest 3", "all"],
)
def test_promote_restores_the_policy_of_before_two_rollbacks(
    tmp_path: Path, text: str, policy: VersionPolicy
) -> None:
    listed = tmp_path / "multimodel.config"
    listed.write_text(CONFIG.format(policy=text))
    for version in ("1", "2", "3"):
        export(tmp_path / "models" / "known" / version)
    for target in (2, 1):
        done = trainer(tmp_path, "rollback", "known", str(target))
        assert done.returncode == 0, done.stderr
        assert _policy(listed) == Specific((target,))
    done = trainer(tmp_path, "promote", "known")
    assert done.returncode == 0, done.stderr
    assert "known is at version 3 and follows new ones" in done.stdout
    assert _policy(listed) == policy


def test_a_pin_by_hand_or_a_damaged_file_leads_to_the_newest(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path)
    assert saved_policy.load("m", settings) == Latest()
    saved_policy.save("m", Specific((1,)), settings)
    assert saved_policy.load("m", settings) == Latest()
    for text in ("{", "[]", '{"m": -1}', '{"m": "some"}'):
        (tmp_path / saved_policy.FILE).write_text(text)
        assert saved_policy.load("m", settings) == Latest()


def test_a_change_that_cannot_be_written_down_leaves_the_list_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "multimodel.config"
    listed.write_text(text := CONFIG.format(policy=""))
    for version in ("1", "2"):
        export(tmp_path / "models" / "known" / version)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(promotion.gateway_status, "answers", lambda _: True)
    monkeypatch.setattr(promotion.folders, "render_live", full)
    with pytest.raises(OSError, match="No space left"):
        promotion.rollback(
            "known", 1, Settings(store=tmp_path / "models", config=listed), tell=print
        )
    assert listed.read_text() == text


def _policy(listed: Path) -> VersionPolicy:
    model = model_list.load(listed).model("known")
    assert model is not None
    return model.policy
