"""The model card: what a version was made of and how good it is, as JSON beside the model and as a
line for people."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import headrace
from trainer.entry import Entry, Hyper, Metric, Score, Split

# TensorFlow Serving leaves what it does not know in there alone.
FOLDER = "assets.extra"
CARD = f"{FOLDER}/card.json"
# Characters of a claim.
_SHOWN = 100

# Of a card that came with an export the gate holds the version to these. All else on it is only
# claimed.
_PROMISES = ("signatures", "tolerance", "budget")

Card = dict[str, Any]


def of_training(
    entry: Entry,
    data: Split,
    score: Score,
    *,
    hyper: Hyper,
    seed: int,
    settings_are: str,
    cpu_s: float,
    wall_s: float,
    trials: Mapping[int, Score] | None = None,
    folds: int = 1,
) -> Card:
    """``trials``: the scores of all seeds that were trained, this version's, the median, among
    them."""
    metric = entry.metric if data.bar is None else replace(entry.metric, bar=data.bar)
    return {
        "model": entry.name,
        "summary": entry.summary,
        "quick": settings_are == "quick",
        "metric": {
            **_metric(metric, score.value, score.baseline),
            "better": entry.metric.better,
            "may_lose": entry.metric.may_lose,
            "full_training_reaches": entry.typical,
        },
        "also": [_metric(other, score.also[other.name], other.guess) for other in entry.also],
        "figures": {entry.metric.name: score.value, **score.also},
        "seeds": {str(seed): trial.value for seed, trial in (trials or {seed: score}).items()},
        "folds": folds,
        "data": [
            {
                "archive": archive.file,
                "version": archive.version,
                "sha256": archive.sha256,
                "member": archive.member,
                "licence": archive.licence,
            }
            for archive in data.data
        ],
        "rows": {name: _rows(getattr(data, name)) for name in ("train", "validation", "held_out")},
        "settings": {"are": settings_are, **asdict(hyper), "seed": seed},
        "signatures": {name: asdict(promise) for name, promise in entry.signatures.items()},
        "tolerance": entry.tolerance,
        "budget": asdict(entry.budget),
        "training": {"cpu_s": round(cpu_s, 2), "wall_s": round(wall_s, 2)},
        "code": {
            "headrace": headrace.__version__,
            "commit": _commit(),
            "trainer_sha256": trainer_sha256(),
        },
        "packages": {
            name: _installed(name) for name in ("keras", "numpy", "tensorflow-cpu", "tensorflow")
        },
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "cpu": _cpu(),
        },
        "python": platform.python_version(),
    }


def of_export(name: str, brought: Card) -> Card:
    """For an export that somebody brought, with its card: nobody here has measured what that says
    of the model."""
    promised = {key: brought[key] for key in _PROMISES if key in brought}
    claimed = {key: value for key, value in brought.items() if key not in (*_PROMISES, "files")}
    return {"model": name, **promised, **({"claimed": claimed} if claimed else {})}


def _metric(metric: Metric, value: float, baseline: float) -> Card:
    return {
        "name": metric.name,
        "value": value,
        "baseline": baseline,
        "baseline_is": metric.baseline,
        "wanted": metric.wanted,
        "reached": metric.reached(Score(value, baseline)),
    }


def finished(card: Card, folder: Path, *, parent: int | None) -> Card:
    """The card with what is known only when the files are there."""
    return {
        **card,
        "parent": parent,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": checksums(folder),
    }


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of every file of a version but the card itself."""
    sums = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != CARD:
            with path.open("rb") as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def changed(card: Card, folder: Path) -> list[str]:
    """Files that are not as the card says, missing and added ones too; none when it says nothing of
    files."""
    said, found = card.get("files", {}), checksums(folder)
    return (
        sorted(name for name in said.keys() | found.keys() if said.get(name) != found.get(name))
        if said
        else []
    )


def write(card: Card, folder: Path) -> None:
    path = folder / CARD
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> Card:
    """The card of a version; an empty one where there is none that can be read: it describes, it
    does not rule."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def line(card: Card) -> str:
    """accuracy 0.9756 (the commonest digit: 0.08554), quick settings: full ones reach about
    0.978"""
    said = "claimed, not checked here: " if "claimed" in card else ""
    card = card.get("claimed", card)
    try:
        metric, settings = card["metric"], card["settings"]["are"]
        text = (
            f"{metric['name']} {metric['value']:.4g} ({metric['baseline_is']}: "
            f"{metric['baseline']:.4g})"
        )
        if settings != "full":
            text += (
                f", {settings} settings: full ones reach about {metric['full_training_reaches']:g}"
            )
    except (KeyError, TypeError, ValueError):
        # Not from our training.
        return "no figures on its card"
    return said + text


def lines(card: Card) -> list[tuple[str, str]]:
    """What a card says, for people; what it does not say is left out."""
    told: list[tuple[str, str]] = []

    def say(title: str, value: Any) -> None:
        if value not in (None, "", [], {}):
            told.append((title, str(value)))

    say("what", card.get("summary"))
    say(
        "exported",
        ", ".join(f"{name} {str(value)[:40]}" for name, value in card.get("exported", {}).items()),
    )
    say("written", card.get("written"))
    say("parent", card.get("parent"))
    for source in card.get("data", []):
        say(
            "data",
            f"{source.get('archive')} sha256 {str(source.get('sha256'))[:12]}, "
            f"{source.get('licence')}",
        )
    say("rows", ", ".join(f"{side} {count}" for side, count in card.get("rows", {}).items()))
    say(
        "settings", ", ".join(f"{name} {value}" for name, value in card.get("settings", {}).items())
    )
    for name, promise in card.get("signatures", {}).items():
        inputs, outputs = (_columns(promise.get(side, {})) for side in ("inputs", "outputs"))
        say("signature", f"{name}: {inputs} -> {outputs}")
    figures = ", ".join(f"{name} {value:.4g}" for name, value in card.get("figures", {}).items())
    say("measured", figures and f"{figures}, by the training here, on held-out rows")
    for check in card.get("checks", []):
        verdict = "pass" if check.get("passed") else "FAIL" if check.get("binds") else "below"
        say("checked", f"{verdict} {check.get('name')}: {check.get('told')}")
    for reason in card.get("forced", []):
        say("forced", reason)
    say(
        "code",
        ", ".join(
            f"{name} {str(value)[:12]}" for name, value in card.get("code", {}).items() if value
        ),
    )
    for name, value in card.get("claimed", {}).items():
        text = f"{name} {json.dumps(value, ensure_ascii=False)}"
        say("claimed", text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    return told


def _columns(specs: Mapping[str, str]) -> str:
    return ", ".join(f"{alias} {spec}" for alias, spec in specs.items())


def _rows(arrays: Mapping[str, Any]) -> int:
    return len(next(iter(arrays.values()), ()))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the tree this runs from, with -dirty where it was changed; None outside a
    checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=root,
            capture_output=True,
            text=True,
        )
    except OSError:
        # No git.
        return None
    return done.stdout.strip() or None


def trainer_sha256() -> str:
    """Over the trainer's own files: it tells versions of the code apart where there is no checkout,
    as in an image."""
    total = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
