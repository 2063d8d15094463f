"""The states of a version, by their numbers in ModelVersionStatus."""

from __future__ import annotations

import enum


class VersionState(enum.IntEnum):
    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50

    @classmethod
    def _missing_(cls, value: object) -> VersionState:
        return cls.UNKNOWN
