"""The server a command calls, and what to do next when a call to it fails."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.protocol.errors import HeadraceError

_NOT_STARTED = (
    "Not started yet? `make up` starts the stack, `headrace serve` a server; --url names another "
    "address."
)
_WRONG_VARIABLE = "This address comes from HEADRACE_URL; --url names another."


@contextmanager
def connected(parsed: argparse.Namespace) -> Iterator[Client]:
    """A client of the server the arguments or the environment name; errors carry advice as a
    note."""
    from headrace import client
    from headrace.client.address import default_url
    from headrace.protocol.errors import HeadraceError

    url = parsed.url or default_url(os.environ)
    with client.Client(url, timeout_s=parsed.timeout) as server:
        try:
            yield server
        except HeadraceError as error:
            advice = _advice(error, parsed, url)
            if advice is not None:
                error.add_note(advice)
            raise


def is_local_stack(parsed: argparse.Namespace) -> bool:
    """Whether the command calls the stack of this machine: no other address was given."""
    return not (parsed.url or os.environ.get("HEADRACE_URL"))


def _advice(error: HeadraceError, parsed: argparse.Namespace, url: str) -> str | None:
    """What to do next, where the error itself does not say.

    Commands of make are named only for the stack of this machine.
    """
    from headrace.client.errors import Unreachable, WrongProtocol
    from headrace.protocol import errors

    if isinstance(error, WrongProtocol):
        return None
    if isinstance(error, Unreachable):
        return _unreachable_advice(parsed)
    if isinstance(error, errors.DeadlineExceeded):
        return _deadline_advice(parsed)
    if isinstance(error, errors.NotFound | errors.InvalidArgument):
        return _models_advice(parsed, url)
    return None


def _unreachable_advice(parsed: argparse.Namespace) -> str | None:
    if parsed.url:
        return None
    if is_local_stack(parsed):
        return _NOT_STARTED
    return _WRONG_VARIABLE


def _deadline_advice(parsed: argparse.Namespace) -> str:
    advice = "Give it more time with --timeout SECONDS"
    if is_local_stack(parsed):
        advice += ", or look for the cause in the server's log: `make logs`"
    return f"{advice}."


def _models_advice(parsed: argparse.Namespace, url: str) -> str | None:
    # Over gRPC there is no call that lists models.
    if parsed.command == "models" or not url.startswith("http"):
        return None
    command = f"headrace models --url {url}" if parsed.url else "headrace models"
    return f"`{command}` lists what is served and what each model takes."
