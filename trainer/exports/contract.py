"""The contract with callers: what a new version's signatures no longer take or give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace.protocol import messages, signatures
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import Signature, TensorSpec
from trainer.exports.gate import Check

# By name.
Signatures = Mapping[str, Signature]
# By alias.
Specs = Mapping[str, TensorSpec]

# The tag of the graph that servers load.
_SERVE = "serve"
# What reading the signatures of a broken SavedModel raises.
_UNREADABLE = (HeadraceError, OSError, ValueError)


def read(folder: Path) -> dict[str, Signature]:
    """The signatures of a SavedModel by name, without TensorFlow.

    Raises HeadraceError or OSError.
    """
    binary = folder / "saved_model.pb"
    if binary.exists():
        saved_model = messages.parse(messages.SavedModel, binary.read_bytes())
    else:
        text = binary.with_suffix(".pbtxt").read_text(encoding="utf-8")
        saved_model = messages.parse_text(messages.SavedModel, text)
    for graph in saved_model.meta_graphs:
        if _SERVE in graph.meta_info_def.tags:
            return signatures.from_signature_defs(graph.signature_def)
    return {}


def against_live(new: Path, live: Path, *, version: int) -> Check:
    """Whether the callers of the live version can call the new one in the same way."""
    name = f"callers of version {version}"
    try:
        live_signatures = read(live)
    except _UNREADABLE as error:
        detail = f"not compared: its signatures cannot be read: {error}"
        return Check(name, True, detail, binds=False)
    try:
        new_signatures = read(new)
        faults = list(differences(live_signatures, new_signatures))
    except _UNREADABLE as error:
        return Check(name, False, f"the new signatures cannot be read: {error}")

    detail = "; ".join(faults) or "can call this one as they do"
    return Check(name, not faults, detail)


def differences(live: Signatures, new: Signatures) -> Iterator[str]:
    """What breaks callers of ``live``. A wider shape or a further signature breaks nobody."""
    for name, old in sorted(live.items()):
        if name.startswith("__"):
            # One of TensorFlow's own, which nobody can call.
            continue
        if name not in new:
            yield f"signature {name} is gone"
            continue
        for difference in _inputs(old, new[name]):
            yield f"{name}: {difference}"
        for difference in _outputs(old, new[name]):
            yield f"{name}: {difference}"


def _inputs(old: Signature, new: Signature) -> Iterator[str]:
    for alias, old_spec in old.inputs.items():
        spec = new.inputs.get(alias)
        if spec is None:
            yield f"input {alias} is gone"
        elif not _accepts(spec, old_spec):
            yield f"input {alias} is {_text(spec)}, was {_text(old_spec)}"
        elif alias in old.defaults and alias not in new.defaults:
            yield f"input {alias} has no default any more"

    added = _added(old.inputs, new.inputs)
    for alias in added:
        if alias not in new.defaults:
            yield f"input {alias} is new and has no default"

    # REST callers may leave the name of a single input out, but not that of one among several.
    if len(old.inputs) != 1 or len(new.inputs) == 1:
        return
    (only,) = old.inputs
    if only in new.inputs and set(new.required) <= {only}:
        yield f"input {added[0]} is new, so REST takes {only} no longer without its name"


def _outputs(old: Signature, new: Signature) -> Iterator[str]:
    for alias, old_spec in old.outputs.items():
        spec = new.outputs.get(alias)
        if spec is None:
            yield f"output {alias} is gone"
        elif not _gives(spec, old_spec):
            yield f"output {alias} is {_text(spec)}, was {_text(old_spec)}"

    # The same holds for the answer.
    if len(old.outputs) != 1 or len(new.outputs) == 1:
        return
    (only,) = old.outputs
    if only in new.outputs:
        added = _added(old.outputs, new.outputs)
        yield f"output {added[0]} is new, so REST gives {only} no longer without its name"


def _added(old: Specs, new: Specs) -> list[str]:
    """The aliases that only ``new`` has."""
    return [alias for alias in new if alias not in old]


def _accepts(new: TensorSpec, old: TensorSpec) -> bool:
    """Whether everything that fits ``old`` fits ``new``."""
    if new.dtype_number != old.dtype_number:
        return False
    if new.shape is None or old.shape is None:
        return new.shape is None
    return signatures.fits(old.shape, new.shape)


def _gives(new: TensorSpec, old: TensorSpec) -> bool:
    """Compares dtype and rank alone: a new version may have been made for more classes, say."""
    if new.dtype_number != old.dtype_number:
        return False
    if new.shape is None or old.shape is None:
        return old.shape is None
    return len(new.shape) == len(old.shape)


def _text(spec: TensorSpec) -> str:
    dtype = spec.dtype or f"dtype {spec.dtype_number}"
    return f"{dtype} {spec.shape_text}"
