"""What can keep the trainer from publishing a version, and the exit code that says so."""

from __future__ import annotations

from typing import ClassVar

from headrace.protocol.errors import HeadraceError


class TrainerError(HeadraceError):
    """An expected failure; its message is for the person at the prompt."""

    exit_code: ClassVar[int] = 1


class Usage(TrainerError):
    """An unknown name or invalid setting."""

    exit_code = 2


class Refused(TrainerError):
    """The gate kept an export out of the store."""

    exit_code = 3


class Broken(TrainerError):
    """A file of the zoo that cannot be imported, or has no ENTRY."""


class NotAvailable(TrainerError):
    """A model's data, or the tool that fetches it, cannot be had here and now."""

    exit_code = 4


class NotLive(TrainerError):
    """The running servers did not come to serve the change; the list of models is as it was."""
