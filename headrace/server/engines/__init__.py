"""How a model runs. An engine loads the folder of one version; what it gives back answers runs
until it is closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from headrace.protocol.signatures import Signature


class LoadedModel(Protocol):
    """One version in memory. ``run`` may be called by many threads at once; ``close`` once, and it
    waits for runs under way: who asked for them may have gone, and released the version, before
    they end."""

    signatures: Mapping[str, Signature]
    # Name -> SignatureDef message, as the artifact has it.
    signature_defs: Mapping[str, Any]
    # Name -> why rows may depend on each other, "" where it is proved that they do not.
    not_row_wise: Mapping[str, str]

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]: ...

    def expected_s(self, signature: Signature, size: int) -> float:
        """How long a run over inputs of so many bytes will probably take; infinite where that is
        not known."""

    def close(self) -> None: ...


class Engine(Protocol):
    def load(self, folder: Path) -> LoadedModel: ...


def bytes_in(inputs: Mapping[str, np.ndarray]) -> int:
    """How large the inputs are, strings counted by their own length: what a run's time is expected
    by."""
    total = 0
    for array in inputs.values():
        total += array.nbytes if array.dtype.kind != "O" else sum(map(len, array.ravel()))
    return total
