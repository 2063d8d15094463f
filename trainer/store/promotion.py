"""promote and rollback: make another version live by editing the user's list of models.

The list is edited, rendered, and waited for. A refused or failed change leaves the list as it was.
Where no server runs, the change takes effect at the next start.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy, select
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig
from trainer.errors import NotLive, Usage
from trainer.settings import Settings, Tell
from trainer.store import edit, gateway_status, saved_policy, versions
from trainer.store.gateway_status import ExpectedModel

# In the store, where everybody who may edit can write.
_LOCK = ".multimodel.config.edit.lock"


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """A model's entry in the list, and its complete versions."""

    model: ModelConfig
    complete: tuple[int, ...]

    @property
    def served(self) -> tuple[int, ...]:
        return self.served_under(self.model.policy)

    @property
    def live(self) -> int | None:
        """The version that answers calls which name none."""
        if not self.served:
            return None
        return self.served[-1]

    def served_under(self, policy: VersionPolicy) -> tuple[int, ...]:
        return select(policy, self.complete)


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One state of the model's entry; it must be live before the next step is written."""

    policy: VersionPolicy
    labels: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps after which version ``target`` answers callers."""

    target: int
    steps: tuple[PlanStep, ...]

    @property
    def policy(self) -> VersionPolicy:
        return self.steps[-1].policy


def promote(name: str, version: int | None, settings: Settings, *, tell: Tell) -> None:
    """Make the newest version live and follow new ones; or, with ``version``, pin that one."""
    with _editing(settings, tell):
        current = _model_versions(name, settings)
        if version is None:
            plan = _follow_plan(current, settings)
        else:
            plan = _pin_plan(current, version)
        _carry_out(current, plan, settings, tell=tell)
        saved_policy.save(name, current.model.policy, settings)


def rollback(name: str, version: int | None, settings: Settings, *, tell: Tell) -> None:
    """Pin ``version``, or else the version that was live when the live one was published."""
    with _editing(settings, tell):
        current = _model_versions(name, settings)
        if version is None:
            version = _version_before(current, settings)
        plan = _pin_plan(current, version)
        _carry_out(current, plan, settings, tell=tell)
        saved_policy.save(name, current.model.policy, settings)


def _model_versions(name: str, settings: Settings) -> ModelVersions:
    model = model_list.load(settings.config).model(name)
    if model is None:
        raise Usage(f"{settings.config} has no model {name!r}")
    complete = versions.complete(name, settings)
    if not complete:
        raise Usage(f"{name} has no version yet")
    return ModelVersions(model, complete)


def _version_before(current: ModelVersions, settings: Settings) -> int:
    name = current.model.name
    live = current.live
    if live is None:
        return current.complete[-1]
    earlier = [version for version in current.complete if version < live]
    if not earlier:
        raise Usage(f"{name} has no version before {live} to roll back to")
    # The parent and not just the number below, which may itself have been rolled back.
    live_card = versions.read_card(name, live, settings)
    parent = live_card.get("parent")
    if parent in earlier:
        return int(parent)
    return earlier[-1]


def _follow_plan(current: ModelVersions, settings: Settings) -> Plan:
    target = current.complete[-1]
    labels = _labels_moved_to(target, current)
    policy = current.model.policy
    if isinstance(policy, Specific):
        policy = saved_policy.load(current.model.name, settings)
    following = _following(policy, labels, current.complete)
    return _plan(current, target, following, labels)


def _pin_plan(current: ModelVersions, target: int) -> Plan:
    if target not in current.complete:
        name = current.model.name
        numbers = ", ".join(map(str, current.complete))
        raise Usage(f"{name} has no version {target}; there are {numbers}")
    labels = _labels_moved_to(target, current)
    pinned = sorted({target, *labels.values()})
    return _plan(current, target, Specific(tuple(pinned)), labels)


def _labels_moved_to(target: int, current: ModelVersions) -> dict[str, int]:
    """Labels on the live version, on later ones and on ones that are gone move to the target."""
    labels = {}
    for label, version in current.model.labels.items():
        is_gone = version not in current.complete
        is_live = version == current.live
        if version > target or is_live or is_gone:
            labels[label] = target
        else:
            labels[label] = version
    return labels


def _following(
    policy: VersionPolicy, labels: Mapping[str, int], complete: tuple[int, ...]
) -> Latest | All:
    """A policy that follows new versions and still serves every labelled one.

    With labels it serves at least two, so that theirs outlives the next publish.
    """
    if isinstance(policy, All):
        return policy
    count = 1
    if isinstance(policy, Latest):
        count = policy.num_versions
    if not labels:
        return Latest(max(count, 1))
    oldest = min(labels.values())
    count_down_to_oldest = sum(version >= oldest for version in complete)
    return Latest(max(count, 2, count_down_to_oldest))


def _plan(
    current: ModelVersions, target: int, policy: VersionPolicy, labels: Mapping[str, int]
) -> Plan:
    model = current.model
    last = PlanStep(policy, labels)

    if dict(labels) == dict(model.labels):
        return Plan(target, (last,))
    # Servers accept a label only for a version that is AVAILABLE, and gateways look up the meaning
    # of a label now and then. So both meanings are served until the label has moved for everyone.
    numbers = {
        *current.served,
        *current.served_under(policy),
        *model.labels.values(),
    }
    both = Specific(tuple(sorted(numbers)))
    steps = (
        PlanStep(both, model.labels),
        PlanStep(both, labels),
        last,
    )
    return Plan(target, steps)


def _carry_out(current: ModelVersions, plan: Plan, settings: Settings, *, tell: Tell) -> None:
    name = current.model.name
    outcome = _outcome(name, plan)
    before = edit.read(settings.config)
    source = str(settings.config)

    texts = []
    for step in plan.steps:
        text = edit.changed(
            before,
            name,
            policy=step.policy,
            labels=step.labels,
            source=source,
        )
        texts.append(text)
    after = texts[-1]
    if after == before:
        tell(f"{source} says so already")
        texts = [before]
    for line in edit.diff(before, after, name=settings.config.name):
        tell(line)

    if not gateway_status.answers(settings.gateway):
        _write(after, settings)
        tell(f"{outcome}, from the next start on: nothing answers at {settings.gateway}")
        return

    _make_live(current, before, texts, settings)
    numbers = current.served_under(plan.policy)
    served = ", ".join(map(str, numbers))
    tell(f"{outcome}: live, served: {served}")


def _make_live(current: ModelVersions, before: str, texts: list[str], settings: Settings) -> None:
    """Write one text after the other, each live before the next; all is undone if one fails."""
    written = before
    try:
        for text in texts:
            written = text
            _write(text, settings)
            _wait_until_live(current, settings)
    except BaseException as error:
        # Also after Ctrl-C, and on a full disk.
        _undo(before, written, settings)
        if isinstance(error, NotLive):
            raise NotLive(f"{error.message}; {settings.config} is as it was") from error
        raise


def _write(text: str, settings: Settings) -> None:
    if edit.read(settings.config) != text:
        edit.write(settings.config, text)
    folders.render_live(settings.config, settings.store)


def _wait_until_live(current: ModelVersions, settings: Settings) -> None:
    name = current.model.name
    model = model_list.load(settings.config).model(name)
    if model is None:
        raise NotLive(f"{name} was taken out of {settings.config} meanwhile")
    served = frozenset(current.served_under(model.policy))
    expected = ExpectedModel(model, served)
    gateway_status.wait_until_live(
        settings.gateway,
        [expected],
        timeout_s=settings.live_timeout_s,
    )


def _undo(before: str, written: str, settings: Settings) -> None:
    """Restore the list, unless somebody else has edited it meanwhile."""
    if edit.read(settings.config) == written:
        _write(before, settings)


def _outcome(name: str, plan: Plan) -> str:
    if isinstance(plan.policy, Specific):
        return f"{name} is pinned to version {plan.target}"
    return f"{name} is at version {plan.target} and follows new ones"


@contextmanager
def _editing(settings: Settings, tell: Tell) -> Iterator[None]:
    """Allows one change at a time, from its first look at the list to its last."""
    settings.store.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    handle = os.open(settings.store / _LOCK, flags, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another promote or rollback is at work; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
