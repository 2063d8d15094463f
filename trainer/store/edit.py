"""One model's policy and labels changed in the user's list of models; all other text stays as it
is, comments too."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from headrace.protocol import messages, text_positions
from headrace.protocol.errors import Internal, PermissionDenied
from headrace.protocol.text_positions import TextPath, TextPosition
from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import model_list
from headrace.store.folders import replace_file
from headrace.store.model_list import ModelConfig, ServingConfig
from trainer.errors import Usage

_LIST = "model_config_list"
_POLICY, _LABELS = "model_version_policy", "version_labels"
_COMMENT = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?P<comment>\#[^\n\r]*)""")

# From, to, what stands there instead.
Edit = tuple[int, int, str]


def changed(
    text: str, name: str, *, policy: VersionPolicy, labels: Mapping[str, int], source: str = ""
) -> str:
    """``text`` with that policy and those labels for one model. Labels can be moved, not made or
    removed."""
    before = model_list.parse(text, source=source)
    model = before.model(name)
    if model is None:
        raise Usage(f"{source or 'the list of models'} has no model {name!r}")
    entry = (_LIST, 0, "config", before.models.index(model))
    found = text_positions.find(text)
    edits = [
        *_move_labels(found, entry, labels),
        *(_set_policy(text, found, entry, policy) if policy != model.policy else ()),
    ]
    after = text
    for start, end, piece in sorted(edits, reverse=True):
        after = after[:start] + piece + after[end:]
    _check(
        before,
        model,
        replace(model, policy=policy, labels=dict(labels)),
        model_list.parse(after, source=source),
    )
    return after


def diff(before: str, after: str, *, name: str) -> list[str]:
    lines = (before.splitlines(), after.splitlines())
    return list(difflib.unified_diff(*lines, f"{name} (before)", f"{name} (now)", lineterm="", n=3))


def read(path: Path) -> str:
    """As it is, line ends too; what is broken in it is for config.parse to say."""
    model_list.load(path)
    return path.read_bytes().decode()


def write(path: Path, text: str) -> None:
    """By a rename where the folder lets us, which a kill cannot split; else into the file itself.

    In a container of root's the file has been handed over to us, and its folder, a whole project,
    has not.
    """
    # The file behind a link.
    path = path.resolve()
    try:
        with path.open("rb+") as file:
            status = os.fstat(file.fileno())
            if status.st_uid == os.geteuid() and os.access(path.parent, os.W_OK):
                # A file that is mounted by itself cannot be renamed over.
                with suppress(OSError):
                    replace_file(path, text)
                    path.chmod(status.st_mode & 0o777)
                    return
            _overwrite(file.fileno(), text.encode())
    except PermissionError as error:
        raise PermissionDenied(f"{path}: {error.strerror}") from error


def _overwrite(file: int, content: bytes) -> None:
    """One write as long as the old content, then the cut: killed in between, only blank lines are
    left over."""
    old = os.fstat(file).st_size
    os.pwrite(file, content.ljust(old, b"\n"), 0)
    os.fsync(file)
    os.ftruncate(file, len(content))
    os.fsync(file)


def _check(
    before: ServingConfig, model: ModelConfig, wanted: ModelConfig, after: ServingConfig
) -> None:
    if after.models != tuple(wanted if each is model else each for each in before.models):
        raise Internal(
            f"the entry of {model.name} is written in a way that cannot be edited safely: edit it "
            "by hand"
        )


def _move_labels(
    found: Mapping[TextPath, TextPosition], entry: TextPath, labels: Mapping[str, int]
) -> list[Edit]:
    edits = []
    at = 0
    while (*entry, _LABELS, at) in found:
        key, value = (found.get((*entry, _LABELS, at, field, 0)) for field in ("key", "value"))
        at += 1
        if key is None or value is None:
            # Version 0 or a label without a name: the check tells.
            continue
        # Escapes and adjacent strings are protobuf's to read.
        wanted = labels.get(messages.parse_text(messages.ModelSpec, f"name: {key.value}").name)
        if wanted is not None and wanted != int(value.value, 0):
            edits.append((value.end - len(value.value), value.end, str(wanted)))
    return edits


def _set_policy(
    text: str, found: Mapping[TextPath, TextPosition], entry: TextPath, policy: VersionPolicy
) -> list[Edit]:
    piece = _render(policy)
    if place := found.get((*entry, _POLICY, 0)):
        return [_replace_field(text, place, piece)]
    return [_insert_field(text, found[entry], piece)] if piece else []


def _replace_field(text: str, place: TextPosition, piece: str) -> Edit:
    """In its place, or taken out with its line. Comments from inside it stay, on lines before
    it."""
    start, end = place.start, place.end
    line = text.rfind("\n", 0, start) + 1
    indent = text[line:start] if not text[line:start].strip() else ""
    kept = [m["comment"] for m in _COMMENT.finditer(text, start, end) if m["comment"]]
    comments = "".join(f"{comment}{_newline(text)}{indent}" for comment in kept)
    if piece or kept:
        return start, end, comments + piece
    if separator := re.compile(r"\s*[,;]").match(text, end):
        end = separator.end()
    rest = re.compile(r"[ \t]*\r?\n").match(text, end)
    if rest and not text[line:start].strip():
        return line, rest.end(), ""
    blank = re.compile(r"[ \t]*").match(text, end)
    return start, blank.end() if blank else end, ""


def _insert_field(text: str, entry: TextPosition, piece: str) -> Edit:
    """As the entry's last field, on a line of its own where the others have theirs."""
    closer = entry.end - 1
    line = text.rfind("\n", 0, closer) + 1
    if text[line:closer].strip():
        at = len(text[:closer].rstrip(" \t"))
        return at, closer, f" {piece} "
    inside = text[text.find("\n", entry.start) + 1 : line]
    indents = [re.match(r"[ \t]*", row)[0] for row in inside.splitlines() if row.strip()]  # type: ignore[index]
    return (
        line,
        line,
        f"{indents[0] if indents else text[line:closer] + '  '}{piece}{_newline(text)}",
    )


def _render(policy: VersionPolicy) -> str:
    """ "" for what is so by default."""
    match policy:
        case Latest(1):
            return ""
        case Latest(count):
            return f"{_POLICY} {{ latest {{ num_versions: {count} }} }}"
        case All():
            return f"{_POLICY} {{ all {{}} }}"
        case Specific(versions):
            listed = " ".join(f"versions: {version}" for version in versions)
            return f"{_POLICY} {{ specific {{ {listed} }} }}"


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
