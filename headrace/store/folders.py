"""The store: <base_path>/<version>/ folders by TensorFlow Serving's rules, and the live config
rendered into it.

Knows files and names; what a SavedModel means is for those who load it.
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
_VERSION = re.compile(r"-?[0-9]+", re.ASCII)
_VARIABLES = (b"VarHandleOp", b"VariableV2")
# Copied in order of their names, saved_model.pb is there before variables/. A graph may hold
# variables that it fills itself and that come in no file, so without that folder it is let in once
# nothing more has come for a while.
_FRESH_S = 5.0
_HEADER = "# Rendered by Headrace from the list of models one edits; a change here is lost.\n"


def versions(base_path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Ascending version numbers under a base path: every entry whose whole name is an int64. ()
    when it is missing."""
    return tuple(sorted(_names(base_path)))


def version_path(base_path: str | os.PathLike[str], version: int) -> Path:
    """The entry of a version: of "1" and "001" the one that sorts last, as TensorFlow Serving takes
    it."""
    name = _names(base_path).get(version)
    if name is None:
        raise NotFound(f"no version {version} under {os.fspath(base_path)}")
    return Path(base_path, name)


def is_complete(version_dir: str | os.PathLike[str]) -> bool:
    """Whether a version can be loaded, not half-copied."""
    return not missing(version_dir)


def saved_model(folder: str | os.PathLike[str]) -> Path | None:
    """The file that makes a folder a SavedModel."""
    paths = (Path(folder, name) for name in ("saved_model.pb", "saved_model.pbtxt"))
    return next((path for path in paths if _size(path) > 0), None)


def missing(version_dir: str | os.PathLike[str]) -> str:
    """What a version still lacks, in words; "" when it is whole: the SavedModel, and its variables
    in their length."""
    folder = Path(version_dir)
    graph = saved_model(folder)
    if graph is None:
        return "no saved_model.pb yet"
    try:
        names = os.listdir(folder / "variables")
    except (FileNotFoundError, NotADirectoryError):
        names = []
    if not any(name.startswith("variables.") for name in names):
        return "no variables yet" if _wants_variables(graph) and _is_fresh(folder) else ""
    index = folder / "variables" / "variables.index"
    try:
        wanted = bundle.data_files(index)
    except OSError:
        return "no variables.index yet"
    except DataLoss:
        return "variables.index is not whole yet"
    for name, least in wanted.items():
        size = _size(index.with_name(name))
        if size < least:
            return f"{name} has {size} of {least} bytes yet" if size >= 0 else f"no {name} yet"
    return ""


def local_path(base_path: str, models_root: str | os.PathLike[str] | None) -> Path:
    """Where a config's base path is on this machine: the prefix /models stands for ``models_root``,
    if there is one."""
    if "://" in base_path:
        scheme, _, rest = base_path.partition("://")
        if scheme != "file":
            raise Unimplemented(f"base_path {base_path!r}: only local paths can be served here")
        base_path = rest
    path = posixpath.normpath(base_path)
    if models_root is not None and (path == MODELS_PREFIX or path.startswith(MODELS_PREFIX + "/")):
        return Path(models_root, path[len(MODELS_PREFIX) + 1 :])
    return Path(path)


def unserved_labels(models: ServingConfig, store: Path) -> list[str]:
    """A sentence for each label on a version that is not there, or that the model's policy leaves
    out."""
    told = []
    for model in models.models:
        if not model.labels or "://" in model.base_path:
            continue
        there = versions(local_path(model.base_path, store))
        served = version_policy.select(model.policy, there)
        for label, version in model.labels.items():
            if version in served:
                continue
            why = "its policy does not serve" if version in there else "is not there"
            numbers = ", ".join(map(str, served)) or "none"
            told.append(
                f"{model.name}: the label {label!r} is on version {version}, which {why}; served: "
                f"{numbers}"
            )
    return told


@dataclass(frozen=True, slots=True)
class RenderedLive:
    """Names of the models in the live config, of those that wait for their first version, and of
    those that were in the live config before and are no longer wanted."""

    served: tuple[str, ...]
    waiting: tuple[str, ...]
    changed: bool
    removed: tuple[str, ...] = ()


def render_live(desired: Path, store: Path) -> RenderedLive:
    """Write the live config: the desired models that have a version to serve.

    A stock TensorFlow Serving keeps both its ports closed over a model without one. Replaced by one
    rename, left alone when nothing changes; ConfigError when the desired file is broken, and the
    live one stays.
    """
    with _locked(store):
        # Read under the lock: of two publishers that render at once, the later one has seen both
        # versions.
        wanted = model_list.load(desired)
        served = tuple(model for model in wanted.models if _can_serve(model, store))
        text = _HEADER + model_list.render(ServingConfig(served))
        live = store / CONFIG_NAME
        removed = tuple(name for name in _names_in(live) if wanted.model(name) is None)
        changed = _text_of(live) != text
        if changed:
            replace_file(live, text)
    names = tuple(model.name for model in served)
    waiting = tuple(model.name for model in wanted.models if model.name not in names)
    return RenderedLive(names, waiting, changed, removed)


def replace_file(path: Path, text: str) -> None:
    """Give the file new content in one step: readers see the old or the new, also after a power
    cut."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # The server may run as somebody else.
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
    numbers = ((int(name), name) for name in names if _VERSION.fullmatch(name))
    return {number: name for number, name in numbers if -(1 << 63) <= number < 1 << 63}


def _can_serve(model: ModelConfig, store: Path) -> bool:
    """Whether there is a version the model's policy would serve. Paths outside the store are the
    user's own affair."""
    path = posixpath.normpath(model.base_path)
    if path != MODELS_PREFIX and not path.startswith(MODELS_PREFIX + "/"):
        return True
    base_path = local_path(model.base_path, store)
    present = versions(base_path)
    if isinstance(model.policy, Specific):
        present = version_policy.select(model.policy, present)
    return any(is_complete(version_path(base_path, version)) for version in present)


def _size(path: Path) -> int:
    """Of a file; -1 when there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _wants_variables(graph: Path) -> bool:
    """Whether it names kinds of operations that hold a variable."""
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(kind) >= 0 for kind in _VARIABLES)


def _is_fresh(folder: Path) -> bool:
    """Whether somebody wrote there just now. Of the times of a file only this one cannot be copied
    along with it."""
    newest = max(entry.stat().st_ctime for entry in (folder, *folder.iterdir()))
    return time.time() - newest < _FRESH_S


def _names_in(live: Path) -> tuple[str, ...]:
    """None where there is no live config yet, or one that nobody could serve from."""
    try:
        return tuple(model.name for model in model_list.load(live).models)
    except ConfigError:
        return ()


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """One renderer at a time; what a killed one left behind is swept up."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        handle = os.open(
            store / f".{CONFIG_NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
    except PermissionError as error:
        raise PermissionDenied(f"the store {store} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for left in store.glob(f".{CONFIG_NAME}.*.tmp"):
            left.unlink()
        yield
    finally:
        os.close(handle)
