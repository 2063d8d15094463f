"""The user's list of models is edited as a person would: the one entry, and nothing around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import model_list
from trainer.errors import Usage
from trainer.store import edit

PLAIN = """# mine
model_config_list {
  config {
    name: "a"   # the first
    base_path: "/models/a"
    model_platform: "tensorflow"
  }
  config { name: "b" base_path: "/models/b" model_platform: "tensorflow" }  # the second
}
"""
PINNED = PLAIN.replace(
    '    model_platform: "tensorflow"\n  }',
    '    model_platform: "tensorflow"\n    model_version_policy { specific { versions: 2 } }\n  }',
)


def edited(text: str, name: str, policy: VersionPolicy, **labels: int) -> str:
    return edit.changed(text, name, policy=policy, labels=labels)


def test_a_pin_is_one_line_more() -> None:
    assert edited(PLAIN, "a", Specific((2,))) == PINNED


def test_back_to_latest_is_the_text_of_before() -> None:
    assert edited(PINNED, "a", Latest()) == PLAIN


def test_an_entry_on_one_line_stays_on_one_line() -> None:
    after = edited(PLAIN, "b", Specific((1, 3)))
    assert after == PLAIN.replace(
        '"tensorflow" }  # the second',
        '"tensorflow" model_version_policy { specific { versions: 1 versions: 3 } } }  # the '
        "second",
    )
    assert edited(after, "b", Latest()) == PLAIN


def test_no_change_changes_nothing() -> None:
    assert edited(PINNED, "a", Specific((2,))) == PINNED


@pytest.mark.parametrize(
    "field",
    [
        "model_version_policy { specific { versions: 2 } };",
        "model_version_policy: < latest < num_versions: 3 > >,",
        "model_version_policy { # why\n      specific {\n        versions: [1, 2] # both\n      "
        "}\n    }",
        "model_version_policy { all {} }  # all of them",
    ],
    ids=["semicolon", "angles and comma", "many lines with comments", "comment behind"],
)
@pytest.mark.parametrize(
    "policy", [Latest(), Latest(2), All(), Specific((7,))], ids=["1", "2", "all", "7"]
)
def test_however_it_is_written_the_rest_and_its_comments_stay(
    field: str, policy: VersionPolicy
) -> None:
    text = PLAIN.replace(
        '    model_platform: "tensorflow"\n  }',
        f'    {field}\n    model_platform: "tensorflow"\n  }}',
    )
    after = edited(text, "a", policy)
    model = model_list.parse(after).model("a")
    assert model is not None and model.policy == policy
    assert model_list.parse(after).model("b") == model_list.parse(text).model("b")
    comments = [row.partition("#")[2].strip() for row in text.splitlines() if "#" in row]
    assert [row.partition("#")[2].strip() for row in after.splitlines() if "#" in row] == comments


def test_labels_move_and_keep_their_layout() -> None:
    labels = '    version_labels { key: "stable" value: 3 }  # careful\n'
    labels += '    version_labels: {\n      key: "canary"\n      value: 4\n    }\n'
    text = PLAIN.replace(
        '    model_platform: "tensorflow"\n  }', f'    model_platform: "tensorflow"\n{labels}  }}'
    )
    after = edited(text, "a", Specific((2, 4)), stable=2, canary=4)
    assert 'version_labels { key: "stable" value: 2 }  # careful' in after
    assert set(after.splitlines()) - set(text.splitlines()) == {
        '    version_labels { key: "stable" value: 2 }  # careful',
        "    model_version_policy { specific { versions: 2 versions: 4 } }",
    }


def test_windows_lines_stay() -> None:
    after = edited(PLAIN.replace("\n", "\r\n"), "a", Specific((2,)))
    assert after == PINNED.replace("\n", "\r\n")


def test_a_list_in_brackets_is_edited_too() -> None:
    text = (
        'model_config_list: { config: [ { name: "a" base_path: "/m/a" model_platform: '
        '"tensorflow" } ] }'
    )
    assert "specific { versions: 1 } } } ] }" in edited(text, "a", Specific((1,)))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(Usage, match="no model 'c'"):
        edited(PLAIN, "c", All())


def test_the_diff_shows_the_line() -> None:
    told = edit.diff(PLAIN, PINNED, name="multimodel.config")
    assert [line for line in told if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "+    model_version_policy { specific { versions: 2 } }"
    ]


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "real.config", tmp_path / "multimodel.config"
    path.write_text(PLAIN)
    path.chmod(0o640)
    link.symlink_to(path)
    edit.write(link, PINNED)
    assert link.is_symlink() and path.read_text() == PINNED
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("old", "new"), [(PLAIN, PINNED), (PINNED, PLAIN)], ids=["longer", "shorter"]
)
def test_a_file_written_in_place_is_whole(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "multimodel.config"
    path.write_text(old)
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "access", lambda *_: False)  # a folder of somebody else's
    cuts: list[str] = []
    cut = os.ftruncate
    monkeypatch.setattr(
        os, "ftruncate", lambda *given: (cuts.append(path.read_text()), cut(*given))[1]
    )
    edit.write(path, new)
    assert (path.read_text(), path.stat().st_ino) == (new, inode)
    assert model_list.parse(cuts[0]) == model_list.parse(
        new
    )  # what a kill at that moment would have left
