"""multimodel.config, TensorFlow Serving's ModelServerConfig, as frozen dataclasses and back.

Errors have a line and a column, also where the text is well-formed and its meaning is not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from headrace.protocol import messages, text_positions
from headrace.protocol.errors import ConfigError
from headrace.protocol.text_positions import TextPath, TextPosition
from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy

PLATFORM = "tensorflow"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LIST = "model_config_list"
_TYPE, _PLATFORM = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    name: str
    base_path: str
    platform: str = PLATFORM
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    # A serialized LoggingConfig, which we pass on and do not read.
    logging: bytes = b""


@dataclass(frozen=True, slots=True)
class ServingConfig:
    models: tuple[ModelConfig, ...] = ()

    def model(self, name: str) -> ModelConfig | None:
        return next((model for model in self.models if model.name == name), None)

    def by_name(self) -> ServingConfig:
        return ServingConfig(tuple(sorted(self.models, key=lambda model: model.name)))


def load(path: str | os.PathLike[str], *, may_be_blank: bool = False) -> ServingConfig:
    """The config in a file; ConfigError also when the file cannot be read.

    A blank file has no list, which is not an empty list: it looks like a file that is being written
    or was cut off. With ``may_be_blank`` it is a config without any model, as for TensorFlow
    Serving when it starts.
    """
    source = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=source) from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise ConfigError("not UTF-8 text", line=line, column=column, source=source) from error
    return parse(text, source=source, may_be_blank=may_be_blank)


def parse(text: str, *, source: str = "", may_be_blank: bool = False) -> ServingConfig:
    """The config in TensorFlow Serving's text format; see load()."""
    message = messages.parse_text(messages.ModelServerConfig, text, source)
    if message.WhichOneof("config") is None and not may_be_blank:
        reason = (
            f"no {_LIST}: the file is empty or was cut off; to serve no model at all, write "
            f"`{_LIST} {{}}`"
        )
        raise ConfigError(reason, line=1, column=1, source=source)
    return _Reader(text_positions.find(text), source).config(message)


def from_message(message: Any) -> ServingConfig:
    """The config in a ModelServerConfig message; its errors have no position."""
    return _Reader({}, "").config(message)


def to_message(config: ServingConfig) -> Any:
    message = messages.ModelServerConfig()
    message.model_config_list.SetInParent()
    for model in config.models:
        entry = message.model_config_list.config.add(
            name=model.name, base_path=model.base_path, model_platform=model.platform
        )
        match model.policy:
            case Latest(1):
                pass
            case Latest(num_versions):
                entry.model_version_policy.latest.num_versions = num_versions
            case All():
                entry.model_version_policy.all.SetInParent()
            case Specific(versions):
                entry.model_version_policy.specific.SetInParent()
                entry.model_version_policy.specific.versions.extend(versions)
        for label, version in sorted(model.labels.items()):
            entry.version_labels[label] = version
        if model.logging:
            entry.logging_config.ParseFromString(model.logging)
    return message


def render(config: ServingConfig) -> str:
    """The config as text; ``parse`` of it gives the config back."""
    return messages.render_text(to_message(config))


@dataclass(frozen=True, slots=True)
class _Reader:
    """A ModelServerConfig checked for meaning; knows where in the text each field stands."""

    positions: Mapping[TextPath, TextPosition]
    source: str

    def config(self, message: Any) -> ServingConfig:
        if message.HasField("custom_model_config"):
            raise self._error(
                "custom_model_config cannot be served, list models in model_config_list",
                "custom_model_config",
            )
        models: list[ModelConfig] = []
        first: dict[str, int] = {}
        for index, entry in enumerate(message.model_config_list.config):
            model = self._model(entry, index)
            if model.name in first:
                earlier = self.positions.get((_LIST, 0, "config", first[model.name], "name", 0))
                where = f", first at line {earlier.line}" if earlier else ""
                raise self._error(
                    f"model {model.name!r} is listed twice{where}",
                    "name",
                    index=index,
                    serving=f"Illegal to list model {model.name} multiple times in config list",
                )
            first[model.name] = index
            models.append(model)
        return ServingConfig(tuple(models))

    def _model(self, entry: Any, index: int) -> ModelConfig:
        if not entry.name:
            raise self._error("a model has no name", "name", index=index)
        self._check_base_path(entry, index)
        self._check_platform(entry, index)
        policy = _policy(entry.model_version_policy)
        self._check_labels(entry, index, policy)
        return ModelConfig(
            name=entry.name,
            base_path=entry.base_path,
            platform=PLATFORM,
            policy=policy,
            labels=dict(sorted(entry.version_labels.items())),
            logging=entry.logging_config.SerializeToString(deterministic=True),
        )

    def _check_base_path(self, entry: Any, index: int) -> None:
        path = entry.base_path
        serving = (
            f"Expected model {entry.name} to have an absolute path or URI; got base_path()={path}"
        )
        if not path:
            raise self._error(
                f"model {entry.name!r} has no base_path", "base_path", index=index, serving=serving
            )
        if not is_absolute(path):
            raise self._error(
                f"base_path of model {entry.name!r} is {path!r}, expected an absolute path or a "
                "URI",
                "base_path",
                index=index,
                serving=serving,
            )

    def _check_platform(self, entry: Any, index: int) -> None:
        if entry.model_platform and entry.model_type:
            raise self._error(
                f"model {entry.name!r} has both model_platform and the deprecated model_type",
                "model_type",
                index=index,
                serving=f"Illegal setting both {_TYPE} and {_PLATFORM}, model name is {entry.name}",
            )
        # Before there was model_platform, configs had model_type: TENSORFLOW.
        platform = entry.model_platform or {0: "", 1: PLATFORM}.get(entry.model_type, "OTHER")
        if platform != PLATFORM:
            field_name = "model_platform"
            if entry.model_type and not entry.model_platform:
                field_name = "model_type"
            if platform:
                fault = f"has the platform {platform!r}"
                serving = f"Model {entry.name} requests unsupported platform {platform}"
            else:
                fault = "has no model_platform"
                serving = (
                    f"Illegal setting neither {_TYPE} nor {_PLATFORM}, model name is {entry.name}"
                )
            raise self._error(
                f"model {entry.name!r} {fault}, expected {PLATFORM!r}",
                field_name,
                index=index,
                serving=serving,
            )

    def _check_labels(self, entry: Any, index: int, policy: VersionPolicy) -> None:
        earlier: set[str] = set()
        for at, label in enumerate(self._labels(entry, index)):
            fault = None
            version = entry.version_labels.get(label)
            if not label:
                fault = "has an empty label"
            elif label in earlier:
                fault = f"has the label {label!r} twice"
            elif isinstance(policy, Specific) and version not in policy.versions:
                fault = (
                    f"has the label {label!r} on version {version}, which its policy does not serve"
                )
            if fault:
                raise self._error(
                    f"model {entry.name!r} {fault}", "version_labels", index=index, at=at
                )
            earlier.add(label)

    def _labels(self, entry: Any, index: int) -> Iterator[str]:
        """Labels as written, with repetitions, which the message's map has lost."""
        path = (_LIST, 0, "config", index, "version_labels")
        if (*path, 0) not in self.positions:
            yield from sorted(entry.version_labels)
        for at in count():
            if (*path, at) not in self.positions:
                return
            key = self.positions.get((*path, at, "key", 0))
            # Escapes and adjacent strings are for protobuf to read.
            yield messages.parse_text(messages.ModelSpec, f"name: {key.value}").name if key else ""

    def _error(
        self, reason: str, name: str, *, index: int | None = None, at: int = 0, serving: str = ""
    ) -> ConfigError:
        """An error at the field's position, or if it is missing at what should contain it."""
        path: TextPath = (name, at) if index is None else (_LIST, 0, "config", index, name, at)
        while path and path not in self.positions:
            path = path[:-2]
        position = self.positions.get(path, TextPosition(0, 0))
        return ConfigError(
            reason,
            line=position.line,
            column=position.column,
            source=self.source,
            serving_text=serving,
        )


def is_absolute(path: str) -> bool:
    """An absolute path, or a URI."""
    return path.startswith("/") or _URI.match(path) is not None


def _policy(message: Any) -> VersionPolicy:
    match message.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(tuple(message.specific.versions))
        case _:
            # 0 means 1, as in TensorFlow Serving.
            return Latest(message.latest.num_versions or 1)
