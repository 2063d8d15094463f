"""What is live right now: models, versions, labels and signatures, as values; and which version a
call means."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.contracts.samples import Samples
from headrace.protocol.errors import InvalidArgument, NotFound, Unavailable
from headrace.protocol.faults import Fault, our_text
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature, callable_ones, near_name

_NAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Contract:
    """One version that answers: its signatures, and how a call is pinned to it in either
    protocol."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
    lenient: bool
    # Of the backend, pinned to the version.
    predict_path: str
    # Appended to a request, sets model_spec.version: embedded messages merge.
    grpc_pin: bytes
    # A body for each signature that runs as it stands.
    samples: Samples = field(default_factory=dict)
    # What check() is given: no shapes when lenient.
    checked: Mapping[str, Signature] = field(init=False)

    def __post_init__(self) -> None:
        checked = (
            {n: _shapeless(s) for n, s in self.signatures.items()}
            if self.lenient
            else self.signatures
        )
        object.__setattr__(self, "checked", checked)

    def signature(self, name: str) -> str:
        """The name of the signature a call means; unknown ones are the caller's error."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            known = sorted(self.callable)
            facts = {
                "signature": name[:200],
                "model": self.model,
                "version": self.version,
                "hint": near_name(name, known),
            }
            fault = Fault(
                "unknown_signature", ("signature_name",), _listed(known), name[:200], facts=facts
            )
            raise InvalidArgument(our_text(fault), fault=fault)
        return name

    @property
    def callable(self) -> Mapping[str, Signature]:
        return callable_ones(self.signatures)

    def path(self, verb: str) -> str:
        """Of the backend, pinned to the version."""
        return self.predict_path.removesuffix("predict") + verb


@dataclass(frozen=True, slots=True)
class VersionStatus:
    version: int
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """One configured model as last seen. ``asked`` is False until the backend answered about it
    once."""

    name: str
    labels: Mapping[str, int] = field(default_factory=dict)
    # Newest first.
    versions: tuple[VersionStatus, ...] = ()
    contracts: Mapping[int, Contract] = field(default_factory=dict)
    asked: bool = False
    note: str = ""
    # Versions that the model list asks for and that could not be loaded.
    failed: tuple[VersionStatus, ...] = ()

    @property
    def latest(self) -> Contract | None:
        return self.contracts[max(self.contracts)] if self.contracts else None

    @property
    def state(self) -> str:
        """AVAILABLE when any version is and its signatures are known; else that of the newest
        version."""
        if self.contracts:
            return "AVAILABLE"
        if not self.versions:
            return "UNKNOWN"
        # AVAILABLE at the backend, but callers cannot be let in before its signatures are here.
        return "LOADING" if self.versions[0].state == "AVAILABLE" else self.versions[0].state

    @property
    def reason(self) -> str:
        """What is wrong with the model, also where an older version still answers; empty when
        nothing is."""
        if self.failed:
            serving = [f"version {self.latest.version} serves"] if self.latest else []
            return "; ".join(
                [*(f"version {v.version} failed: {v.reason}" for v in self.failed), *serving]
            )
        if self.contracts:
            return ""
        told = next((v.reason for v in self.versions if v.reason), "")
        return told or self.note or ("" if self.asked else "not asked yet")

    @property
    def loading(self) -> bool:
        """Still on its way to its first verdict, as far as anyone can tell."""
        return not self.asked or self.state in ("START", "LOADING")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every configured model; swapped whole by the registry, never changed."""

    models: Mapping[str, Model] = field(default_factory=dict)
    config_error: str = ""

    @property
    def failed(self) -> list[tuple[str, int]]:
        """Model and version of each that could not be loaded."""
        return [
            (name, v.version) for name, model in sorted(self.models.items()) for v in model.failed
        ]

    def resolve(self, target: ModelSpec) -> Contract:
        """The contract a call is checked against and pinned to."""
        model = self.model(target.name)
        if not model.asked:
            raise Unavailable(
                f'model "{model.name}" is configured, but the serving backend has not answered '
                "about it yet"
            )
        version = target.version
        if target.label is not None:
            version = model.labels.get(target.label)
            if version is None:
                label = target.label[:200]
                facts = {
                    "model": model.name,
                    "label": label,
                    "hint": near_name(label, model.labels),
                }
                fault = Fault(
                    "unknown_label", expected=_listed(sorted(model.labels)), got=label, facts=facts
                )
                raise InvalidArgument(our_text(fault), fault=fault)
        contract = model.latest if version is None else model.contracts.get(version)
        if contract is not None:
            return contract
        if model.contracts:
            live = _listed([str(v) for v in sorted(model.contracts)])
            raise NotFound(f'model "{model.name}" has no version {version} here; available: {live}')
        because = f": {model.reason}" if model.reason else ""
        if model.loading:
            raise Unavailable(f'model "{model.name}" is still loading{because}')
        raise NotFound(
            f'model "{model.name}" has no version that can answer (state {model.state}){because}'
        )

    def refuse_unknown(self, target: ModelSpec) -> None:
        """Says which versions or labels there are, where the backend said no more than that this
        one is not."""
        if target.version is not None or target.label is not None:
            with contextlib.suppress(Unavailable):
                self.resolve(target)

    def model(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None:
            facts = {"model": name[:200], "hint": near_name(name, self.models)}
            fault = Fault(
                "unknown_model", expected=_listed(sorted(self.models)), got=name[:200], facts=facts
            )
            raise NotFound(our_text(fault), fault=fault)
        return model

    def with_model(self, model: Model) -> Catalog:
        return replace(self, models={**self.models, model.name: model})


def _shapeless(signature: Signature) -> Signature:
    return replace(
        signature,
        inputs={alias: replace(spec, shape=None) for alias, spec in signature.inputs.items()},
    )


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
