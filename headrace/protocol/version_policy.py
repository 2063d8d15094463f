"""Which versions of a model are to be served: ServableVersionPolicy of a model list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latest:
    """The highest ``num_versions`` versions."""

    num_versions: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every version there is."""


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions and no others."""

    versions: tuple[int, ...]


VersionPolicy = Latest | All | Specific


def select(policy: VersionPolicy, numbers: Iterable[int]) -> tuple[int, ...]:
    """Which of these versions the policy asks for, ascending."""
    present = tuple(sorted(numbers))
    match policy:
        case Latest(count):
            return present[-count:]
        case Specific(versions):
            return tuple(number for number in present if number in versions)
        case All():
            return present
