"""What callers of a version rely on: its signatures, and what of them a new version no longer takes
or gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace.protocol import messages, signatures
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import Signature, TensorSpec
from trainer.exports.gate import Check

# The tag of what a server loads.
_SERVE = "serve"


def read(folder: Path) -> dict[str, Signature]:
    """The signatures of a SavedModel by name, without TensorFlow. Raises HeadraceError or
    OSError."""
    binary = folder / "saved_model.pb"
    if binary.exists():
        saved = messages.parse(messages.SavedModel, binary.read_bytes())
    else:
        saved = messages.parse_text(
            messages.SavedModel, binary.with_suffix(".pbtxt").read_text(encoding="utf-8")
        )
    for graph in saved.meta_graphs:
        if _SERVE in graph.meta_info_def.tags:
            return {
                name: signatures.from_signature_def(name, found)
                for name, found in graph.signature_def.items()
            }
    return {}


def against_live(new: Path, live: Path, *, version: int) -> Check:
    """Whether those who call the live ``version`` can call the new one in the same way, and read
    its answers."""
    name = f"callers of version {version}"
    try:
        known = read(live)
    except (HeadraceError, OSError, ValueError) as error:
        return Check(
            name, True, f"not compared: its signatures cannot be read: {error}", binds=False
        )
    try:
        faults = list(differences(known, read(new)))
    except (HeadraceError, OSError, ValueError) as error:
        return Check(name, False, f"the new signatures cannot be read: {error}")
    return Check(name, not faults, "; ".join(faults) or "can call this one as they do")


def differences(live: Mapping[str, Signature], new: Mapping[str, Signature]) -> Iterator[str]:
    """What breaks those who call as ``live`` asks for. A wider shape, or a further signature,
    breaks nobody."""
    for name, old in sorted(live.items()):
        # TensorFlow's own, which nobody can call.
        if name.startswith("__"):
            continue
        if name not in new:
            yield f"signature {name} is gone"
            continue
        for difference in (*_inputs(old, new[name]), *_outputs(old, new[name])):
            yield f"{name}: {difference}"


def _inputs(old: Signature, now: Signature) -> Iterator[str]:
    for alias, sent in old.inputs.items():
        if alias not in now.inputs:
            yield f"input {alias} is gone"
        elif not _takes(now.inputs[alias], sent):
            yield f"input {alias} is {_told(now.inputs[alias])}, was {_told(sent)}"
        elif alias in old.defaults and alias not in now.defaults:
            yield f"input {alias} has no default any more"
    added = [alias for alias in now.inputs if alias not in old.inputs]
    for alias in added:
        if alias not in now.defaults:
            yield f"input {alias} is new and has no default"
    if len(old.inputs) == 1 < len(now.inputs) and set(now.required) <= set(old.inputs) <= set(
        now.inputs
    ):
        yield (
            f"input {added[0]} is new, so REST takes {next(iter(old.inputs))} no longer without "
            "its name"
        )


def _outputs(old: Signature, now: Signature) -> Iterator[str]:
    for alias, wanted in old.outputs.items():
        if alias not in now.outputs:
            yield f"output {alias} is gone"
        elif not _gives(now.outputs[alias], wanted):
            yield f"output {alias} is {_told(now.outputs[alias])}, was {_told(wanted)}"
    added = [alias for alias in now.outputs if alias not in old.outputs]
    if len(old.outputs) == 1 < len(now.outputs) and set(old.outputs) <= set(now.outputs):
        yield (
            f"output {added[0]} is new, so REST gives {next(iter(old.outputs))} no longer "
            "without its name"
        )


def _takes(now: TensorSpec, sent: TensorSpec) -> bool:
    """Whether all that fitted ``sent`` fits ``now``."""
    if now.dtype_number != sent.dtype_number:
        return False
    if now.shape is None or sent.shape is None:
        return now.shape is None
    return signatures.fits(sent.shape, now.shape)


def _gives(now: TensorSpec, wanted: TensorSpec) -> bool:
    """Dtype and rank alone: more classes, say, are what a new version may be made for."""
    if now.dtype_number != wanted.dtype_number:
        return False
    if now.shape is None or wanted.shape is None:
        return wanted.shape is None
    return len(now.shape) == len(wanted.shape)


def _told(spec: TensorSpec) -> str:
    return f"{spec.dtype or f'dtype {spec.dtype_number}'} {spec.shape_text}"
