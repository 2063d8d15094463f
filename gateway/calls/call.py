"""What every inference call can do, whichever protocol it came in: be checked, and be sent.

A door reads a request and makes a call of it; ``Core.run`` does the rest.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from gateway.contracts.catalog import Catalog
from headrace.protocol.model_spec import ModelSpec

Answer = TypeVar("Answer", covariant=True)


class Call(Protocol[Answer]):
    """A call remembers what ``check()`` found, for ``send()``."""

    spec: ModelSpec
    # check() is then run in a thread, so that the calls beside it go on.
    is_big: bool

    def check(self, catalog: Catalog) -> None:
        """Find the version that is meant and check the call against its signature.

        Raises a HeadraceError where anything is wrong. Core may call it again with a newer catalog.
        """

    async def send(self) -> Answer:
        """Forward the call, pinned to the version that it was last checked against."""
