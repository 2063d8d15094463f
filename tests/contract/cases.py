"""The cases of the contract as values: exchanges recorded from a real TensorFlow Serving, and
written ones for what its specification says and no recording shows. cases/README.md says more."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Parts = str | list[Any]  # a text, or texts and [text, times]

_FOLDER = Path(__file__).with_name("cases")
REST, REST_WRITTEN = _FOLDER / "rest.jsonl", _FOLDER / "rest_written.jsonl"
GRPC, GRPC_WRITTEN = _FOLDER / "grpc.jsonl", _FOLDER / "grpc_written.jsonl"
LIFECYCLE = _FOLDER / "lifecycle.jsonl"


@dataclass(frozen=True)
class Ours:
    """A deliberate difference, and the status we answer: a number over REST, a code's name over
    gRPC."""

    why: str
    status: int | str


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
    is_written: bool

    @property
    def is_metrics(self) -> bool:
        return self.status == 200 and self.answer_headers.get("Content-Type") == "text/plain"

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


@dataclass(frozen=True)
class GrpcCase:
    """One call. ``request`` and ``response`` are protobuf text, or bytes where ``method`` is a
    path."""

    id: str
    server: str
    method: str
    request: str | bytes
    status: str
    response: str | bytes | None
    details: str | None
    then: Mapping[str, tuple[int, str]]
    ours: Ours | None


def rest() -> list[Case]:
    return [
        _case(row, is_written=file is REST_WRITTEN)
        for file in (REST, REST_WRITTEN)
        for row in _rows(file)
    ]


def grpc() -> list[GrpcCase]:
    return [_grpc_case(row) for file in (GRPC, GRPC_WRITTEN) for row in _rows(file)]


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _grpc_case(row: Mapping[str, Any]) -> GrpcCase:
    return GrpcCase(
        id=row["id"],
        server=row["server"],
        method=row["method"],
        request=bytes.fromhex(row["request_bytes"])
        if "request_bytes" in row
        else row.get("request", ""),
        status=row.get("status", ""),
        response=bytes.fromhex(row["response_bytes"])
        if "response_bytes" in row
        else row.get("response"),
        details=row.get("details"),
        then={model: (status, body) for model, (status, body) in row.get("then", {}).items()},
        ours=_ours(row),
    )


def _ours(row: Mapping[str, Any]) -> Ours | None:
    return Ours(row["ours"]["why"], row["ours"]["status"]) if "ours" in row else None


def _case(row: Mapping[str, Any], *, is_written: bool) -> Case:
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
        answer=base64.b64decode(row["answer_base64"])
        if "answer_base64" in row
        else row.get("answer", "").encode(),
        answer_headers=row.get("answer_headers", {}),
        closed=row.get("closed", False),
        died=row.get("died", False),
        note=row.get("note", ""),
        ours=_ours(row),
        is_written=is_written,
    )


def _text(parts: Parts) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)
