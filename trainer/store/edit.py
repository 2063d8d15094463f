"""Changes one model's policy and labels in the text of the user's list of models.

All other text stays as it is, comments too.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from headrace.protocol import messages, text_positions
from headrace.protocol.errors import Internal, PermissionDenied
from headrace.protocol.text_positions import TextPath, TextPosition
from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import model_list
from headrace.store.folders import replace_file
from headrace.store.model_list import ModelConfig, ServingConfig
from trainer.errors import Usage

_LIST = "model_config_list"
_POLICY = "model_version_policy"
_LABELS = "version_labels"
_SEPARATOR = re.compile(r"\s*[,;]")
_LINE_END = re.compile(r"[ \t]*\r?\n")
_COMMENT = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?P<comment>\#[^\n\r]*)""")


class Edit(NamedTuple):
    """Characters ``start`` to ``end`` are replaced by ``text``."""

    start: int
    end: int
    text: str


def changed(
    text: str, name: str, *, policy: VersionPolicy, labels: Mapping[str, int], source: str = ""
) -> str:
    """``text`` with another policy and labels for one model.

    Labels can be moved, not added or removed.
    """
    before = model_list.parse(text, source=source)
    model = before.model(name)
    if model is None:
        place = source or "the list of models"
        raise Usage(f"{place} has no model {name!r}")

    index = before.models.index(model)
    entry = (_LIST, 0, "config", index)
    positions = text_positions.find(text)
    edits = _move_labels(positions, entry, labels)
    if policy != model.policy:
        edits += _set_policy(text, positions, entry, policy)
    new_text = _edited(text, edits)

    expected = replace(model, policy=policy, labels=dict(labels))
    after = model_list.parse(new_text, source=source)
    _check(before, model, expected, after)
    return new_text


def diff(before: str, after: str, *, name: str) -> list[str]:
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"{name} (before)",
        f"{name} (now)",
        lineterm="",
        n=3,
    )
    return list(lines)


def read(path: Path) -> str:
    """The text as it is, line ends too. Raises ConfigError when the list is broken."""
    model_list.load(path)
    return path.read_bytes().decode()


def write(path: Path, text: str) -> None:
    """Atomically, by a rename, where the folder may be written; otherwise into the file itself.

    In a container that root started, the file was handed over to us, and its folder was not.
    """
    # A link stays a link: the file behind it is written.
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


def _edited(text: str, edits: list[Edit]) -> str:
    # From the end, so that the positions before an edit stay right.
    for edit in sorted(edits, reverse=True):
        before = text[: edit.start]
        after = text[edit.end :]
        text = before + edit.text + after
    return text


def _overwrite(file: int, content: bytes) -> None:
    """Write at least as much as was there, then truncate: a kill in between leaves blank lines."""
    old_size = os.fstat(file).st_size
    os.pwrite(file, content.ljust(old_size, b"\n"), 0)
    os.fsync(file)
    os.ftruncate(file, len(content))
    os.fsync(file)


def _check(
    before: ServingConfig, model: ModelConfig, expected: ModelConfig, after: ServingConfig
) -> None:
    expected_models = []
    for each in before.models:
        if each is model:
            expected_models.append(expected)
        else:
            expected_models.append(each)
    if after.models != tuple(expected_models):
        raise Internal(
            f"the entry of {model.name} is written in a way that cannot be edited safely: edit it "
            "by hand"
        )


def _move_labels(
    positions: Mapping[TextPath, TextPosition], entry: TextPath, labels: Mapping[str, int]
) -> list[Edit]:
    edits = []
    for index in count():
        path = (*entry, _LABELS, index)
        if path not in positions:
            break
        key = positions.get((*path, "key", 0))
        value = positions.get((*path, "value", 0))
        if key is None or value is None:
            # Version 0, or a label without a name: _check() reports it.
            continue
        # Escapes and adjacent strings are for protobuf to read.
        label = messages.parse_text(messages.ModelSpec, f"name: {key.value}").name
        version = labels.get(label)
        if version is not None and version != int(value.value, 0):
            start = value.end - len(value.value)
            edits.append(Edit(start, value.end, str(version)))
    return edits


def _set_policy(
    text: str, positions: Mapping[TextPath, TextPosition], entry: TextPath, policy: VersionPolicy
) -> list[Edit]:
    field = _render(policy)
    present = positions.get((*entry, _POLICY, 0))
    if present is not None:
        return [_replace_field(text, present, field)]
    if field:
        return [_insert_field(text, positions[entry], field)]
    return []


def _replace_field(text: str, present: TextPosition, field: str) -> Edit:
    """Put ``field`` in its place, or remove it with its line.

    Comments inside the old field stay, on lines before it.
    """
    start = present.start
    end = present.end
    line = text.rfind("\n", 0, start) + 1
    before = text[line:start]
    is_alone_on_its_line = not before.strip()

    comments = _comments(text, start, end)
    if field or comments:
        line_end_and_indent = _newline(text)
        if is_alone_on_its_line:
            line_end_and_indent += before
        lines = [comment + line_end_and_indent for comment in comments]
        return Edit(start, end, "".join(lines) + field)

    separator = _SEPARATOR.match(text, end)
    if separator:
        end = separator.end()
    line_end = _LINE_END.match(text, end)
    if line_end and is_alone_on_its_line:
        return Edit(line, line_end.end(), "")
    rest = text[end:].lstrip(" \t")
    after_blanks = len(text) - len(rest)
    return Edit(start, after_blanks, "")


def _comments(text: str, start: int, end: int) -> list[str]:
    comments = []
    for match in _COMMENT.finditer(text, start, end):
        comment = match["comment"]
        if comment:
            comments.append(comment)
    return comments


def _insert_field(text: str, entry: TextPosition, field: str) -> Edit:
    """As the entry's last field, on its own line if the closing brace has one."""
    closing_brace = entry.end - 1
    line = text.rfind("\n", 0, closing_brace) + 1
    before_brace = text[line:closing_brace]
    if before_brace.strip():
        end_of_text = len(text[:closing_brace].rstrip(" \t"))
        return Edit(end_of_text, closing_brace, f" {field} ")

    indent = before_brace + "  "
    first_field = text.find("\n", entry.start) + 1
    for row in text[first_field:line].splitlines():
        if row.strip():
            # That of the entry's first field.
            indent_length = len(row) - len(row.lstrip(" \t"))
            indent = row[:indent_length]
            break
    return Edit(line, line, f"{indent}{field}{_newline(text)}")


def _render(policy: VersionPolicy) -> str:
    """The field as text; "" for the default policy."""
    match policy:
        case Latest(1):
            return ""
        case Latest(number):
            return f"{_POLICY} {{ latest {{ num_versions: {number} }} }}"
        case All():
            return f"{_POLICY} {{ all {{}} }}"
        case Specific(versions):
            listed = " ".join(f"versions: {version}" for version in versions)
            return f"{_POLICY} {{ specific {{ {listed} }} }}"


def _newline(text: str) -> str:
    if "\r\n" in text:
        return "\r\n"
    return "\n"
