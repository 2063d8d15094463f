"""How commands print what they know of a model: one line, its fields two blanks apart."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def print_fields(*fields: str) -> None:
    """Empty fields are left out."""
    print("  ".join(filter(None, fields)))


def print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
