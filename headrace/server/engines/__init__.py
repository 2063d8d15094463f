"""How a model runs: an engine loads the folder of one version into a LoadedModel, which runs until
it is closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from headrace.protocol.signatures import Signature


# Tensors by alias: the inputs or outputs of a run.
Arrays: TypeAlias = "Mapping[str, np.ndarray]"


class LoadedModel(Protocol):
    """One version in memory. Many threads may call ``run`` at once. ``close`` is called once, and
    waits for the runs under way, whose callers may already have given up."""

    signatures: Mapping[str, Signature]
    # The SignatureDef messages by name, as the SavedModel has them.
    signature_defs: Mapping[str, Any]
    # For each signature, why rows may depend on each other; None where it is proved that they do
    # not.
    not_row_wise: Mapping[str, str | None]

    def run(
        self,
        signature: Signature,
        inputs: Arrays,
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> Arrays: ...

    def expected_s(self, signature: Signature, requests: Iterable[Arrays]) -> float:
        """How long one run over the inputs of these requests will probably take; infinite if
        unknown."""

    def close(self) -> None: ...


class Engine(Protocol):
    def load(self, folder: Path) -> LoadedModel: ...
