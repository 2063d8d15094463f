"""What is live right now: models, versions, labels and signatures; and which version a call is for.

All of it is values: the registry makes a new catalog when something changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.contracts.samples import Samples
from headrace.protocol.errors import InvalidArgument, NotFound, Unavailable
from headrace.protocol.faults import Fault, our_text
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature, callable_ones, near_name

_MAX_NAMES_SHOWN = 12
# Of a name that a caller made up.
_MAX_NAME_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Contract:
    """One version that answers: its signatures, and how a call is pinned to it in either
    protocol."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
    # Shapes are not checked.
    lenient: bool
    # Of the backend, pinned to the version.
    predict_path: str
    # Appended to a serialized request it sets model_spec.version, because embedded messages merge.
    grpc_pin: bytes
    # For each signature a body that can be sent as it is.
    samples: Samples = field(default_factory=dict)
    # The signatures as calls are checked against them: without shapes when lenient.
    checked_signatures: Mapping[str, Signature] = field(init=False)

    def __post_init__(self) -> None:
        checked = dict(self.signatures)
        if self.lenient:
            for name, signature in self.signatures.items():
                checked[name] = _without_shapes(signature)
        object.__setattr__(self, "checked_signatures", checked)

    @property
    def callable(self) -> Mapping[str, Signature]:
        return callable_ones(self.signatures)

    def signature_name(self, name: str) -> str:
        """The name of the signature that a call means by ``name``, which may be empty."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise self._unknown_signature(name[:_MAX_NAME_SHOWN])
        return name

    def path(self, verb: str) -> str:
        """Of the backend, pinned to the version."""
        return self.predict_path.removesuffix("predict") + verb

    def _unknown_signature(self, name: str) -> InvalidArgument:
        names = sorted(self.callable)
        facts = {
            "signature": name,
            "model": self.model,
            "version": self.version,
            "hint": near_name(name, names),
        }
        fault = Fault("unknown_signature", ("signature_name",), _listed(names), name, facts=facts)
        return InvalidArgument(our_text(fault), fault=fault)


@dataclass(frozen=True, slots=True)
class VersionStatus:
    version: int
    state: str
    # The server's words for what went wrong; empty when nothing did.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """One configured model as the backend last described it."""

    name: str
    labels: Mapping[str, int] = field(default_factory=dict)
    # Newest first.
    versions: tuple[VersionStatus, ...] = ()
    contracts: Mapping[int, Contract] = field(default_factory=dict)
    # False until the backend has answered about it once.
    has_status: bool = False
    # Why a version that is there has no contract.
    problem: str | None = None
    # Versions that the model list asks for and that could not be loaded.
    failed_versions: tuple[VersionStatus, ...] = ()
    # The contract of the newest version that answers.
    latest: Contract | None = field(init=False)

    def __post_init__(self) -> None:
        latest = None
        if self.contracts:
            latest = self.contracts[max(self.contracts)]
        object.__setattr__(self, "latest", latest)

    @property
    def state(self) -> str:
        """AVAILABLE when any version is and its signatures are known; else that of the newest
        version."""
        if self.contracts:
            return "AVAILABLE"
        if not self.versions:
            return "UNKNOWN"
        newest = self.versions[0].state
        # Calls cannot be checked before the signatures are here.
        return "LOADING" if newest == "AVAILABLE" else newest

    @property
    def reason(self) -> str | None:
        """What is wrong with the model, also where an older version still answers."""
        if self.failed_versions:
            parts = [f"version {v.version} failed: {v.reason}" for v in self.failed_versions]
            if self.latest is not None:
                parts.append(f"version {self.latest.version} serves")
            return "; ".join(parts)
        if self.contracts:
            return None
        for version in self.versions:
            if version.reason:
                return version.reason
        if self.problem is not None:
            return self.problem
        return None if self.has_status else "not asked yet"

    @property
    def loading(self) -> bool:
        """Whether its first verdict is still to come, as far as anyone can tell."""
        return not self.has_status or self.state in ("START", "LOADING")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every configured model."""

    models: Mapping[str, Model] = field(default_factory=dict)
    # Why the model list could not be read; the models are then those of the last good list.
    config_error: str | None = None

    @property
    def failed_versions(self) -> list[tuple[str, int]]:
        """Model and version of each that could not be loaded."""
        failed = []
        for name, model in sorted(self.models.items()):
            for version in model.failed_versions:
                failed.append((name, version.version))
        return failed

    def resolve(self, spec: ModelSpec) -> Contract:
        """The contract that a call is checked against and pinned to."""
        model = self.models.get(spec.name)
        if model is None:
            raise _unknown_model(spec.name, self.models)
        if not model.has_status:
            raise Unavailable(
                f'model "{model.name}" is configured, but the serving backend has not answered '
                "about it yet"
            )
        version = spec.version
        if spec.label is not None:
            version = model.labels.get(spec.label)
            if version is None:
                raise _unknown_label(spec.label[:_MAX_NAME_SHOWN], model)
        if version is None:
            contract = model.latest
        else:
            contract = model.contracts.get(version)
        if contract is None:
            raise _unknown_version(version, model)
        return contract

    def model(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None:
            raise _unknown_model(name, self.models)
        return model

    def raise_if_unknown(self, spec: ModelSpec) -> None:
        """Where the backend does not know a version or label: an error that names those there
        are."""
        if spec.version is not None or spec.label is not None:
            with contextlib.suppress(Unavailable):
                self.resolve(spec)

    def with_model(self, model: Model) -> Catalog:
        return replace(self, models={**self.models, model.name: model})


def _unknown_model(name: str, models: Iterable[str]) -> NotFound:
    name = name[:_MAX_NAME_SHOWN]
    facts = {"model": name, "hint": near_name(name, models)}
    fault = Fault("unknown_model", expected=_listed(sorted(models)), got=name, facts=facts)
    return NotFound(our_text(fault), fault=fault)


def _unknown_label(label: str, model: Model) -> InvalidArgument:
    labels = sorted(model.labels)
    facts = {"model": model.name, "label": label, "hint": near_name(label, labels)}
    fault = Fault("unknown_label", expected=_listed(labels), got=label, facts=facts)
    return InvalidArgument(our_text(fault), fault=fault)


def _unknown_version(version: int | None, model: Model) -> NotFound | Unavailable:
    if model.contracts:
        live = _listed([str(number) for number in sorted(model.contracts)])
        return NotFound(f'model "{model.name}" has no version {version} here; available: {live}')
    because = f": {model.reason}" if model.reason else ""
    if model.loading:
        return Unavailable(f'model "{model.name}" is still loading{because}')
    return NotFound(
        f'model "{model.name}" has no version that can answer (state {model.state}){because}'
    )


def _without_shapes(signature: Signature) -> Signature:
    inputs = {}
    for alias, spec in signature.inputs.items():
        inputs[alias] = replace(spec, shape=None)
    return replace(signature, inputs=inputs)


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    text = ", ".join(names[:_MAX_NAMES_SHOWN])
    if len(names) > _MAX_NAMES_SHOWN:
        text += f" and {len(names) - _MAX_NAMES_SHOWN} more"
    return text
