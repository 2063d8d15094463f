"""The model a call is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One version of a model, the version a label stands on, or, with neither, the latest."""

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""
