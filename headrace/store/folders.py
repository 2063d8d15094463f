"""The store: <base_path>/<version>/ folders by TensorFlow Serving's rules, and the live config.

Knows files and names, not what a SavedModel contains.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import posixpath
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.protocol import version_policy
from headrace.protocol.errors import (
    ConfigError,
    DataLoss,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unimplemented,
)
from headrace.protocol.version_policy import Specific
from headrace.store import bundle, model_list
from headrace.store.model_list import ModelConfig, ServingConfig

CONFIG_NAME = "multimodel.config"
# Where the serving container sees the store.
MODELS_PREFIX = "/models"
_INT64_MIN = -(1 << 63)
_INT64_MAX = (1 << 63) - 1
_VERSION = re.compile(r"-?[0-9]+", re.ASCII)
_VARIABLES = (b"VarHandleOp", b"VariableV2")
# A copy in the order of names brings saved_model.pb before variables/. A graph may also hold
# variables that no file contains, so a version without that folder counts as complete once nothing
# was written for this long.
_FRESH_S = 5.0
_HEADER = "# Rendered by Headrace from the list of models one edits; a change here is lost.\n"


def versions(base_path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Version numbers under a base path, ascending: every entry whose whole name is an int64.

    () when the path does not exist.
    """
    return tuple(sorted(_names(base_path)))


def complete_versions(base_path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The versions that can be loaded, ascending."""
    names = sorted(_names(base_path).items())
    complete = []
    for version, name in names:
        folder = Path(base_path, name)
        if is_complete(folder):
            complete.append(version)
    return tuple(complete)


def version_path(base_path: str | os.PathLike[str], version: int) -> Path:
    """The folder of a version; of "1" and "001" the last by name, as in TensorFlow Serving."""
    name = _names(base_path).get(version)
    if name is None:
        raise NotFound(f"no version {version} under {os.fspath(base_path)}")
    return Path(base_path, name)


def is_complete(version_dir: str | os.PathLike[str]) -> bool:
    """Whether a version can be loaded, and is not just half copied."""
    return missing(version_dir) is None


def saved_model(folder: str | os.PathLike[str]) -> Path | None:
    """The file that makes a folder a SavedModel."""
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        path = Path(folder, name)
        if _size(path) > 0:
            return path
    return None


def missing(version_dir: str | os.PathLike[str]) -> str | None:
    """What a version still lacks before it can be loaded; None when it is complete.

    Complete means: the SavedModel is there, and its variables in their full length.
    """
    folder = Path(version_dir)
    graph = saved_model(folder)
    if graph is None:
        return "no saved_model.pb yet"
    try:
        names = os.listdir(folder / "variables")
    except (FileNotFoundError, NotADirectoryError):
        names = []
    variables = [name for name in names if name.startswith("variables.")]
    if not variables:
        if _has_variables(graph) and _is_fresh(folder):
            return "no variables yet"
        return None

    index = folder / "variables" / "variables.index"
    try:
        data_files = bundle.data_files(index)
    except OSError:
        return "no variables.index yet"
    except DataLoss:
        return "variables.index is not whole yet"
    for name, least in data_files.items():
        size = _size(index.with_name(name))
        if size < 0:
            return f"no {name} yet"
        if size < least:
            return f"{name} has {size} of {least} bytes yet"
    return None


def local_path(base_path: str, models_root: str | os.PathLike[str] | None) -> Path:
    """A config's base path on this machine, with ``models_root`` in place of /models if given."""
    if "://" in base_path:
        scheme, _, rest = base_path.partition("://")
        if scheme != "file":
            raise Unimplemented(f"base_path {base_path!r}: only local paths can be served here")
        base_path = rest
    path = posixpath.normpath(base_path)
    if models_root is None or not _is_in_store(path):
        return Path(path)
    relative = path[len(MODELS_PREFIX) + 1 :]
    return Path(models_root, relative)


def _is_in_store(path: str) -> bool:
    return path == MODELS_PREFIX or path.startswith(f"{MODELS_PREFIX}/")


def unserved_labels(models: ServingConfig, store: Path) -> list[str]:
    """A warning for each label whose version does not exist or is not served by the policy."""
    warnings = []
    for model in models.models:
        if not model.labels or "://" in model.base_path:
            continue
        base_path = local_path(model.base_path, store)
        present = versions(base_path)
        served = version_policy.select(model.policy, present)
        for label, version in model.labels.items():
            if version in served:
                continue
            reason = "is not there"
            if version in present:
                reason = "its policy does not serve"
            numbers = ", ".join(map(str, served))
            if not served:
                numbers = "none"
            warnings.append(
                f"{model.name}: the label {label!r} is on version {version}, which {reason}; "
                f"served: {numbers}"
            )
    return warnings


@dataclass(frozen=True, slots=True)
class RenderedLive:
    """What render_live() did, by names of models."""

    served: tuple[str, ...]
    # Listed, but without a version yet.
    waiting: tuple[str, ...]
    changed: bool
    # In the live config before, and no longer listed.
    removed: tuple[str, ...] = ()


def render_live(desired: Path, store: Path) -> RenderedLive:
    """Write the live config: the models of the desired list that have a version to serve.

    TensorFlow Serving itself opens no port while a listed model has none. The live config is
    replaced by one rename, and left alone when nothing changes. A broken desired list raises
    ConfigError and leaves the live config as it was.
    """
    with _locked(store):
        # Read under the lock, so that of two publishers at once the later one sees both versions.
        desired_list = model_list.load(desired)
        served = []
        waiting = []
        for model in desired_list.models:
            if _can_serve(model, store):
                served.append(model)
            else:
                waiting.append(model.name)

        live = store / CONFIG_NAME
        live_names = _names_in(live)
        removed = [name for name in live_names if desired_list.model(name) is None]
        config = ServingConfig(tuple(served))
        text = _HEADER + model_list.render(config)
        changed = _text_of(live) != text
        if changed:
            replace_file(live, text)

    names = [model.name for model in served]
    return RenderedLive(
        served=tuple(names),
        waiting=tuple(waiting),
        changed=changed,
        removed=tuple(removed),
    )


def replace_file(path: Path, text: str) -> None:
    """Replace a file's content atomically, also through a power cut."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # The server may run as another user.
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _names(base_path: str | os.PathLike[str]) -> dict[int, str]:
    try:
        names = sorted(os.listdir(base_path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        raise PermissionDenied(
            f"{os.fspath(base_path)} cannot be read: {error.strerror}"
        ) from error
    except OSError as error:
        raise Unavailable(f"{os.fspath(base_path)} cannot be read: {error.strerror}") from error
    by_number = {}
    for name in names:
        if not _VERSION.fullmatch(name):
            continue
        version = int(name)
        if _INT64_MIN <= version <= _INT64_MAX:
            by_number[version] = name
    return by_number


def _can_serve(model: ModelConfig, store: Path) -> bool:
    """Whether the policy has a version to serve; always True for paths outside the store."""
    path = posixpath.normpath(model.base_path)
    if not _is_in_store(path):
        return True

    base_path = local_path(model.base_path, store)
    present = versions(base_path)
    if isinstance(model.policy, Specific):
        present = version_policy.select(model.policy, present)
    for version in present:
        folder = version_path(base_path, version)
        if is_complete(folder):
            return True
    return False


def _size(path: Path) -> int:
    """The size of a regular file; -1 when there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1
    if not stat.S_ISREG(status.st_mode):
        return -1
    return status.st_size


def _has_variables(graph: Path) -> bool:
    """Whether the graph names an operation that holds a variable."""
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(kind) >= 0 for kind in _VARIABLES)


def _is_fresh(folder: Path) -> bool:
    """Whether somebody wrote there just now. Copies do not preserve ctime, as they do mtime."""
    newest = max(entry.stat().st_ctime for entry in (folder, *folder.iterdir()))
    return time.time() - newest < _FRESH_S


def _names_in(live: Path) -> tuple[str, ...]:
    """() when there is no live config yet, or a broken one."""
    try:
        config = model_list.load(live)
    except ConfigError:
        return ()
    return tuple(model.name for model in config.models)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Allows one renderer at a time, and removes the temporary files of killed ones."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = store / f".{CONFIG_NAME}.lock"
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as error:
        raise PermissionDenied(f"the store {store} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for leftover in store.glob(f".{CONFIG_NAME}.*.tmp"):
            leftover.unlink()
        yield
    finally:
        os.close(handle)
