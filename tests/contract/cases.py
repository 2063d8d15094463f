"""The recorded exchanges of a real TensorFlow Serving, as values; cases/README.md says where they come from."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Parts = str | list[Any]  # a text, or texts and [text, times]

REST = Path(__file__).with_name("cases") / "rest.jsonl"


@dataclass(frozen=True)
class Ours:
    """A deliberate difference; ``status`` is None where any refusal will do."""

    why: str
    status: int | None


@dataclass(frozen=True)
class Case:
    """One exchange. ``raw`` is the whole request as sent, for those no HTTP client would send."""

    id: str
    server: str
    method: str
    path: str
    headers: Mapping[str, str]
    body_parts: Parts
    raw_parts: Parts | None
    is_gzip: bool
    status: int
    answer: bytes
    answer_headers: Mapping[str, str]
    closed: bool
    died: bool
    note: str
    ours: Ours | None

    @property
    def body(self) -> bytes:
        body = _text(self.body_parts).encode()
        return gzip.compress(body) if self.is_gzip else body

    @property
    def raw(self) -> bytes | None:
        return None if self.raw_parts is None else _text(self.raw_parts).encode()

    @property
    def error(self) -> str | None:
        """The text of an error answer; None for any other answer."""
        if self.status < 400 or not self.answer.startswith(b"{"):
            return None
        return json.loads(self.answer.decode("utf-8", "surrogateescape"))["error"]


def rest(*servers: str) -> list[Case]:
    """The REST cases, all of them or those of the named servers."""
    with REST.open(encoding="utf-8") as lines:
        cases = [_case(json.loads(line)) for line in lines]
    return [case for case in cases if not servers or case.server in servers]


def _case(row: Mapping[str, Any]) -> Case:
    ours = row.get("ours")
    return Case(
        id=row["id"],
        server=row["server"],
        method=row["method"],
        path=row["path"],
        headers=row.get("headers", {}),
        body_parts=row.get("body", ""),
        raw_parts=row.get("raw"),
        is_gzip=row.get("gzip", False),
        status=row.get("status", 0),
        answer=base64.b64decode(row["answer_base64"]) if "answer_base64" in row else row.get("answer", "").encode(),
        answer_headers=row.get("answer_headers", {}),
        closed=row.get("closed", False),
        died=row.get("died", False),
        note=row.get("note", ""),
        ours=Ours(ours["why"], ours.get("status")) if ours else None,
    )


def _text(parts: Parts) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)
