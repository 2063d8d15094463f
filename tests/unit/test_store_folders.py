"""The store's directory rules, and the live config rendered into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol import version_policy
from headrace.protocol.errors import ConfigError, NotFound, PermissionDenied, Unimplemented
from headrace.store import folders, model_list
from headrace.store.folders import RenderedLive
from tests.unit.checkpoints import checkpoint_index

ROOT = Path(__file__).resolve().parents[2]


def publish(base: Path, version: int | str) -> Path:
    """The smallest thing that counts as a whole version."""
    folder = base / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder


def desired(folder: Path, *names: str, extra: str = "") -> Path:
    path = folder / "desired.config"
    entries = "".join(
        f'  config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow" {extra} '
        f"}}\n"
        for n in names
    )
    path.write_text(f"model_config_list {{\n{entries}}}\n")
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["10", "9", "1"], (1, 9, 10), id="ascending by number"),
        pytest.param(["00000123", "7"], (7, 123), id="leading zeros"),
        pytest.param(["-3", "2"], (-3, 2), id="negative"),
        pytest.param(["1", "001"], (1,), id="one number twice"),
        pytest.param(
            ["9223372036854775807", "9223372036854775808"], (2**63 - 1,), id="beyond int64"
        ),
        pytest.param(
            ["-9223372036854775808", "-9223372036854775809"], (-(2**63),), id="below int64"
        ),
        pytest.param(["1" * 200], (), id="very long"),
        pytest.param(
            ["v1", "1.0", "1 ", "+1", "0x1", ".2", "tmp-3", "--1", "-", "\uff11"],
            (),
            id="not a number",
        ),
        pytest.param([], (), id="empty"),
    ],
)
def test_versions_are_entries_whose_whole_name_is_a_number(
    tmp_path: Path, names: list[str], expected: tuple[int, ...]
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    assert folders.versions(tmp_path) == expected


def test_a_file_named_like_a_version_counts_as_in_tensorflow_serving(tmp_path: Path) -> None:
    (tmp_path / "4").write_text("")
    assert folders.versions(tmp_path) == (4,)
    assert not folders.is_complete(tmp_path / "4")


def test_a_missing_base_path_has_no_versions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folders.versions(tmp_path / "missing") == ()
    assert folders.versions(tmp_path / "file") == ()


def test_of_two_spellings_the_last_in_order_is_taken(tmp_path: Path) -> None:
    for name in ("1", "01", "001", "2"):
        (tmp_path / name).mkdir()
    assert folders.version_path(tmp_path, 1) == tmp_path / "1"
    assert folders.version_path(tmp_path, 2) == tmp_path / "2"


def test_an_absent_version_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no version 3 under {tmp_path}"):
        folders.version_path(tmp_path, 3)


@given(st.lists(st.text(st.sampled_from("0123456789-+ ._v"), min_size=1, max_size=6), max_size=6))
def test_every_version_has_a_path_that_reads_as_its_number(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    base = tmp_path_factory.mktemp("base")
    for name in set(names) - {".", ".."}:
        (base / name).mkdir()
    for version in folders.versions(base):
        path = folders.version_path(base, version)
        assert path.is_dir() and int(path.name) == version


SHARD = "variables.data-{:05d}-of-{:05d}".format
INDEX = "variables/variables.index"
WHOLE = {
    "saved_model.pb": 1,
    INDEX: 2,
    f"variables/{SHARD(0, 2)}": 12,
    f"variables/{SHARD(1, 2)}": 30,
}
LAYOUTS: dict[
    str, tuple[dict[str, int], str]
] = {  # name -> its bytes, of an index its shards; what is missing
    "nothing": ({}, "no saved_model.pb yet"),
    "graph alone": ({"saved_model.pb": 1}, None),
    "graph as text": ({"saved_model.pbtxt": 1}, None),
    "graph without bytes": (WHOLE | {"saved_model.pb": 0}, "no saved_model.pb yet"),
    "variables without a graph": (
        {k: v for k, v in WHOLE.items() if k != "saved_model.pb"},
        "no saved_model.pb yet",
    ),
    "whole": (WHOLE, None),
    "longer than it must be": (WHOLE | {f"variables/{SHARD(1, 2)}": 31}, None),
    "first of two shards": (
        {k: v for k, v in WHOLE.items() if SHARD(1, 2) not in k},
        f"no {SHARD(1, 2)} yet",
    ),
    "last of two shards": (
        {k: v for k, v in WHOLE.items() if SHARD(0, 2) not in k},
        f"no {SHARD(0, 2)} yet",
    ),
    "a short shard": (
        WHOLE | {f"variables/{SHARD(1, 2)}": 29},
        f"{SHARD(1, 2)} has 29 of 30 bytes yet",
    ),
    "an empty shard": (
        WHOLE | {f"variables/{SHARD(0, 2)}": 0},
        f"{SHARD(0, 2)} has 0 of 12 bytes yet",
    ),
    "data without index": (
        {k: v for k, v in WHOLE.items() if k != INDEX},
        "no variables.index yet",
    ),
    "empty variables folder": ({"saved_model.pb": 1, "variables/": 0}, None),
    "a stray shard of another save": (WHOLE | {f"variables/{SHARD(2, 3)}": 1}, None),
}


def build(folder: Path, files: dict[str, int]) -> Path:
    for name, size in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_bytes(checkpoint_index([12, 30]) if name == INDEX else b"x" * size)
    return folder


@pytest.mark.parametrize(("files", "lacks"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_half_copied_version_is_not_complete(
    tmp_path: Path, files: dict[str, int], lacks: str | None
) -> None:
    assert folders.missing(build(tmp_path, files)) == lacks
    assert folders.is_complete(tmp_path) is (lacks is None)


def test_an_index_cut_anywhere_is_not_whole(tmp_path: Path) -> None:
    whole = checkpoint_index([12, 30])
    build(tmp_path, WHOLE)
    for length in range(len(whole)):
        (tmp_path / INDEX).write_bytes(whole[:length])
        assert folders.missing(tmp_path) == "variables.index is not whole yet"


def test_variables_that_a_graph_wants_are_waited_for_while_files_still_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x12 VarHandleOp")

    assert folders.missing(tmp_path) == "no variables yet"
    (tmp_path / "variables").mkdir()
    assert folders.missing(tmp_path) == "no variables yet"

    later = time.time() + 60
    monkeypatch.setattr(folders.time, "time", lambda: later)
    assert folders.missing(tmp_path) is None


def test_what_tensorflow_exported_is_complete_and_a_byte_less_is_not(
    contract_models: Path, tmp_path: Path
) -> None:
    for name in ("half_plus_two/123", "counter/123", "mnist_cnn/1", "ident_float/1"):
        copy = tmp_path / name
        shutil.copytree(contract_models / name, copy)
        data = copy / "variables" / SHARD(0, 1)
        assert folders.missing(copy) is None

        content = data.read_bytes()
        data.write_bytes(content[:-1])

        assert (
            folders.missing(copy)
            == f"{data.name} has {len(content) - 1} of {len(content)} bytes yet"
        )


@pytest.mark.parametrize(
    ("base_path", "root", "expected"),
    [
        ("/models/mnist", "/srv/store", "/srv/store/mnist"),
        ("/models/team//mnist/", "/srv/store", "/srv/store/team/mnist"),
        ("/models", "/srv/store", "/srv/store"),
        ("/models/../etc", "/srv/store", "/etc"),
        ("/modelsx/mnist", "/srv/store", "/modelsx/mnist"),
        ("/data/mnist", "/srv/store", "/data/mnist"),
        ("/models/mnist", None, "/models/mnist"),
        ("file:///models/mnist", "/srv/store", "/srv/store/mnist"),
    ],
)
def test_the_models_prefix_stands_for_the_root(
    base_path: str, root: str | None, expected: str
) -> None:
    assert folders.local_path(base_path, root) == Path(expected)


def test_a_remote_base_path_is_refused() -> None:
    with pytest.raises(Unimplemented, match="'gs://bucket/m': only local paths"):
        folders.local_path("gs://bucket/m", None)


def live_names(folder: Path) -> list[str]:
    return [model.name for model in model_list.load(folder / "multimodel.config").models]


def test_the_live_config_holds_what_can_be_served(tmp_path: Path) -> None:
    wanted, folder = desired(tmp_path, "ready", "waiting", "half"), tmp_path / "models"
    publish(folder / "ready", 1)
    publish(folder / "half", 1)
    (folder / "half" / "1" / "saved_model.pb").unlink()
    assert folders.render_live(wanted, folder) == RenderedLive(
        ("ready",), ("waiting", "half"), changed=True
    )
    assert (
        model_list.load(folder / "multimodel.config").models == model_list.load(wanted).models[:1]
    )

    publish(folder / "waiting", 7)
    assert folders.render_live(wanted, folder) == RenderedLive(
        ("ready", "waiting"), ("half",), changed=True
    )
    assert live_names(folder) == ["ready", "waiting"]


def test_a_pinned_model_waits_for_a_version_of_its_policy(tmp_path: Path) -> None:
    wanted = desired(
        tmp_path, "m", extra="model_version_policy { specific { versions: 2 versions: 3 } }"
    )
    publish(tmp_path / "m", 1)
    assert folders.render_live(wanted, tmp_path).waiting == ("m",)
    publish(tmp_path / "m", 3)
    assert folders.render_live(wanted, tmp_path).served == ("m",)


def test_models_outside_the_store_are_taken_as_they_are(tmp_path: Path) -> None:
    wanted = tmp_path / "desired.config"
    wanted.write_text(
        'model_config_list { config { name: "far" base_path: "gs://b/far" model_platform: '
        '"tensorflow" }\n'
        'config { name: "near" base_path: "/elsewhere/near" model_platform: "tensorflow" } }'
    )
    assert folders.render_live(wanted, tmp_path / "models").served == ("far", "near")


def test_nothing_is_rewritten_when_nothing_changes(tmp_path: Path) -> None:
    wanted = desired(tmp_path, "m")
    publish(tmp_path / "m", 1)
    assert folders.render_live(wanted, tmp_path).changed
    before = (tmp_path / "multimodel.config").stat()
    assert folders.render_live(wanted, tmp_path) == RenderedLive(("m",), (), changed=False)
    after = (tmp_path / "multimodel.config").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_broken_list_leaves_the_live_config_alone(tmp_path: Path) -> None:
    wanted = desired(tmp_path, "m")
    publish(tmp_path / "m", 1)
    folders.render_live(wanted, tmp_path)
    before = (tmp_path / "multimodel.config").read_bytes()
    wanted.write_text("model_config_list {\n  confg {}\n}\n")
    with pytest.raises(ConfigError, match=r"desired\.config:2:3: "):
        folders.render_live(wanted, tmp_path)
    assert (tmp_path / "multimodel.config").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_a_blank_list_leaves_the_live_config_alone_and_an_empty_one_says_what_it_takes_away(
    tmp_path: Path,
) -> None:
    wanted = desired(tmp_path, "m", "n", "waiting")
    publish(tmp_path / "m", 1)
    publish(tmp_path / "n", 1)
    folders.render_live(wanted, tmp_path)
    for text in ("", "# about to be written\n", "model_config_list {\n"):
        wanted.write_text(text)
        with pytest.raises(ConfigError):
            folders.render_live(wanted, tmp_path)
        assert live_names(tmp_path) == ["m", "n"]
    wanted.write_text("model_config_list {}")
    assert folders.render_live(wanted, tmp_path) == RenderedLive(
        (), (), changed=True, removed=("m", "n")
    )
    assert live_names(tmp_path) == []
    assert folders.render_live(wanted, tmp_path).removed == ()


def test_an_empty_store_gets_a_live_config_that_serves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "models"
    assert folders.render_live(desired(tmp_path, "m"), folder) == RenderedLive(
        (), ("m",), changed=True
    )
    message = model_list.to_message(model_list.load(folder / "multimodel.config"))
    assert message.WhichOneof("config") == "model_config_list"
    assert "model_config_list" in (folder / "multimodel.config").read_text()


def test_what_a_killed_renderer_left_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".multimodel.config.abc.tmp").write_text("half")
    folders.render_live(desired(tmp_path, "m"), tmp_path)
    assert sorted(p.name for p in tmp_path.glob(".*")) == [".multimodel.config.lock"]


def test_a_live_config_that_is_not_text_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "multimodel.config").write_bytes(b"\xff\xfe")
    assert folders.render_live(desired(tmp_path, "m"), tmp_path).changed
    assert live_names(tmp_path) == []


def test_the_file_is_replaced_for_everyone_to_read_and_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.path.isdir(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o600)
    inode = path.stat().st_ino
    folders.replace_file(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.stat().st_ino != inode
    assert synced == [False, True]  # the file before its rename, the folder after it


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        folders.replace_file(path, "\ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everyone may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def as_somebody() -> Callable[[str], str]:
    """Runs code as a user without rights: root may read everything."""

    def run(code: str) -> str:
        drop = (
            "import os\nif os.geteuid() == 0: os.setgroups([]); os.setgid(65534); "
            "os.setuid(65534)\n"
        )
        load = (
            "from pathlib import Path\n"
            "from headrace.protocol import errors\nfrom headrace.store import folders\n"
        )
        tried = (
            "try:\n    "
            + code
            + "\nexcept errors.HeadraceError as error:\n    print(type(error).__name__, error)\n"
        )
        child = subprocess.run(
            [sys.executable, "-c", load + drop + tried],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return child.stdout

    return run


def test_what_may_not_be_read_is_told_apart_from_what_is_missing(
    open_path: Path, as_somebody: Callable[[str], str]
) -> None:
    closed = open_path / "closed"
    closed.mkdir(mode=0o000)
    out = as_somebody(f"folders.versions({str(closed)!r})")
    assert out == f"{PermissionDenied.__name__} {closed} cannot be read: Permission denied\n"


def test_a_store_that_may_not_be_written_says_so(
    open_path: Path, as_somebody: Callable[[str], str]
) -> None:
    wanted, folder = desired(open_path, "m"), open_path / "models"
    folder.mkdir(mode=0o555)
    out = as_somebody(f"folders.render_live(Path({str(wanted)!r}), Path({str(folder)!r}))")
    assert (
        out
        == f"{PermissionDenied.__name__} the store {folder} cannot be written: Permission denied\n"
    )


def test_two_publishers_at_once_lose_neither_model(tmp_path: Path) -> None:
    """Each publishes, then renders; whoever renders last must have seen everything published
    before."""
    names = [f"m{i}" for i in range(6)]
    wanted, folder = desired(tmp_path, *names), tmp_path / "models"
    code = (
        "import sys\nfrom pathlib import Path\nfrom headrace.store import folders\n"
        "folder, wanted = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "for name in sys.argv[3:]:\n"
        "    (folder / name / '1').mkdir(parents=True)\n"
        "    (folder / name / '1' / 'saved_model.pb').write_bytes(b'x')\n"
        "    assert name in folders.render_live(wanted, folder).served\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(wanted), *part], cwd=ROOT)
        for part in (names[:3], names[3:])
    ]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert live_names(folder) == names


def test_a_reader_never_sees_half_a_config(tmp_path: Path) -> None:
    folder, wanted = tmp_path / "models", []
    for count in (10, 20):
        (tmp_path / str(count)).mkdir()
        wanted.append(desired(tmp_path / str(count), *[f"model_{j}" for j in range(count)]))
    for j in range(20):
        publish(folder / f"model_{j}", 1)
    folders.render_live(wanted[0], folder)
    done = threading.Event()

    def render() -> None:
        for turn in range(12):
            folders.render_live(wanted[turn % 2], folder)
        done.set()

    writer = threading.Thread(target=render)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(len(live_names(folder)))
        time.sleep(0.0005)  # or this thread keeps the interpreter to itself
    writer.join(timeout=30)
    assert seen <= {10, 20}


@pytest.mark.parametrize(
    ("policy", "labels", "warnings"),
    [
        (version_policy.Latest(1), {"new": 2}, []),
        (version_policy.Latest(2), {"new": 2, "old": 1}, []),
        (version_policy.All(), {"new": 2, "old": 1}, []),
        (
            version_policy.Latest(1),
            {"old": 1},
            ["m: the label 'old' is on version 1, which its policy does not serve; served: 2"],
        ),
        (
            version_policy.All(),
            {"x": 7},
            ["m: the label 'x' is on version 7, which is not there; served: 1, 2"],
        ),
    ],
)
def test_labels_on_versions_that_are_not_served_are_told(tmp_path, policy, labels, warnings):
    for version in ("1", "2"):
        (tmp_path / "m" / version).mkdir(parents=True)
        (tmp_path / "m" / version / "saved_model.pb").write_bytes(b"x")
    models = model_list.ServingConfig(
        (model_list.ModelConfig("m", "/models/m", policy=policy, labels=labels),)
    )
    assert folders.unserved_labels(models, tmp_path) == warnings
