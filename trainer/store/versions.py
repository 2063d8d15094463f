"""Which version of a model is live, and making another one live: the user's list is edited,
rendered and waited for.

A refused or failed change leaves the list as it was. Where nothing runs, the change waits in the
list.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig
from trainer.errors import NotLive, Usage
from trainer.settings import Settings, Tell
from trainer.store import before, edit, live, shelf
from trainer.store.shelf import served

# In the store, which those who edit can write.
_LOCK = ".multimodel.config.edit.lock"


Step = tuple[VersionPolicy, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Plan:
    """``target`` will answer callers; the entry goes through ``steps``, each live before the next
    is written."""

    target: int
    steps: tuple[Step, ...]

    @property
    def policy(self) -> VersionPolicy:
        return self.steps[-1][0]


def promote(name: str, version: int | None, settings: Settings, *, tell: Tell) -> None:
    """Make the newest version live and follow new ones again; with ``version``, pin that one."""
    with _editing(settings, tell):
        model, whole = _look(name, settings)
        target = whole[-1] if version is None else _whole(name, version, whole)
        if version is None:
            labels = _moved(model, target, whole)
            known = (
                before.policy(name, settings)
                if isinstance(model.policy, Specific)
                else model.policy
            )
            plan = _plan(model, target, _following(known, labels, whole), labels, whole)
        else:
            plan = _pin(model, target, whole)
        _carry_out(name, model, plan, whole, settings, tell=tell)
        before.keep(name, model.policy, settings)


def rollback(name: str, version: int | None, settings: Settings, *, tell: Tell) -> None:
    """Pin an earlier version: the one that was live when the live one was published, or
    ``version``."""
    with _editing(settings, tell):
        model, whole = _look(name, settings)
        now = served(model, whole)[-1:]
        target = (
            _before(name, now[0] if now else whole[-1] + 1, whole, settings)
            if version is None
            else version
        )
        _carry_out(
            name, model, _pin(model, _whole(name, target, whole), whole), whole, settings, tell=tell
        )
        before.keep(name, model.policy, settings)


def _look(name: str, settings: Settings) -> tuple[ModelConfig, tuple[int, ...]]:
    model = model_list.load(settings.config).model(name)
    if model is None:
        raise Usage(f"{settings.config} has no model {name!r}")
    whole = shelf.versions(name, settings)
    if not whole:
        raise Usage(f"{name} has no version yet")
    return model, whole


def _whole(name: str, version: int, whole: tuple[int, ...]) -> int:
    if version not in whole:
        raise Usage(f"{name} has no version {version}; there are {', '.join(map(str, whole))}")
    return version


def _before(name: str, live_version: int, whole: tuple[int, ...], settings: Settings) -> int:
    earlier = [version for version in whole if version < live_version]
    if not earlier:
        raise Usage(f"{name} has no version before {live_version} to roll back to")
    # The parent, not just the number below: that one may have been rolled back itself.
    parent = (
        shelf.card_of(name, live_version, settings).get("parent") if live_version in whole else None
    )
    return parent if parent in earlier else earlier[-1]


def _moved(model: ModelConfig, target: int, whole: tuple[int, ...]) -> dict[str, int]:
    """Labels of the version that was live, of later ones and of ones that are gone go to the
    target."""
    now = served(model, whole)[-1:]
    return {
        label: target if version > target or version in now or version not in whole else version
        for label, version in model.labels.items()
    }


def _pin(model: ModelConfig, target: int, whole: tuple[int, ...]) -> Plan:
    labels = _moved(model, target, whole)
    return _plan(model, target, Specific(tuple(sorted({target, *labels.values()}))), labels, whole)


def _following(
    known: VersionPolicy, labels: Mapping[str, int], whole: tuple[int, ...]
) -> Latest | All:
    """As many as before; with labels two, so that theirs outlives the next publish, and all down to
    theirs."""
    if isinstance(known, All):
        return known
    count = known.num_versions if isinstance(known, Latest) else 1
    down_to = min(labels.values(), default=whole[-1])
    return Latest(max(count, 2 if labels else 1, sum(version >= down_to for version in whole)))


def _plan(
    model: ModelConfig,
    target: int,
    policy: VersionPolicy,
    labels: Mapping[str, int],
    whole: tuple[int, ...],
) -> Plan:
    if dict(labels) == dict(model.labels):
        return Plan(target, ((policy, labels),))
    after = served(replace(model, policy=policy), whole)
    # Servers take a label only for a version that is AVAILABLE, and gateways look up what a label
    # means once in a while: what it meant before and what it will mean are both served until it has
    # moved for everyone.
    both = Specific(tuple(sorted({*served(model, whole), *after, *model.labels.values()})))
    return Plan(target, ((both, model.labels), (both, labels), (policy, labels)))


def _carry_out(
    name: str,
    model: ModelConfig,
    plan: Plan,
    whole: tuple[int, ...],
    settings: Settings,
    *,
    tell: Tell,
) -> None:
    before = edit.read(settings.config)
    source = str(settings.config)
    texts = [
        edit.changed(before, name, policy=policy, labels=labels, source=source)
        for policy, labels in plan.steps
    ]
    if texts[-1] == before:
        tell(f"{source} says so already")
        texts = [before]
    for line in edit.diff(before, texts[-1], name=settings.config.name):
        tell(line)
    if not live.answers(settings.gateway):
        _write(texts[-1], settings)
        tell(f"{_said(name, plan)}, from the next start on: nothing answers at {settings.gateway}")
        return
    written = before
    try:
        for written in texts:
            _write(written, settings)
            _wait(name, whole, settings)
    except BaseException as error:
        # Ctrl-C and a full disk too.
        _take_back(before, written, settings)
        if isinstance(error, NotLive):
            raise NotLive(f"{error.message}; {source} is as it was") from error
        raise
    after = served(replace(model, policy=plan.policy), whole)
    tell(f"{_said(name, plan)}: live, served: {', '.join(map(str, after))}")


def _write(text: str, settings: Settings) -> None:
    if edit.read(settings.config) != text:
        edit.write(settings.config, text)
    folders.render_live(settings.config, settings.store)


def _wait(name: str, whole: tuple[int, ...], settings: Settings) -> None:
    model = model_list.load(settings.config).model(name)
    if model is None:
        raise NotLive(f"{name} was taken out of {settings.config} meanwhile")
    wanted = live.Expected(model, frozenset(served(model, whole)))
    live.wait(settings.gateway, [wanted], timeout_s=settings.live_timeout_s)


def _take_back(before: str, written: str, settings: Settings) -> None:
    """Unless somebody edited the list meanwhile: their text is not ours to undo."""
    if edit.read(settings.config) == written:
        _write(before, settings)


def _said(name: str, plan: Plan) -> str:
    if not isinstance(plan.policy, Specific):
        return f"{name} is at version {plan.target} and follows new ones"
    return f"{name} is pinned to version {plan.target}"


@contextmanager
def _editing(settings: Settings, tell: Tell) -> Iterator[None]:
    """One change at a time, from its first look to its last."""
    settings.store.mkdir(parents=True, exist_ok=True)
    handle = os.open(settings.store / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another promote or rollback is at work; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
