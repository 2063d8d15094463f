"""Writes the model card of a new version; headrace.store.card reads it.

The keys are a format on users' disks: when one is renamed, headrace.store.card reads both.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import headrace
from headrace.store.card import FILE, Card, checksums
from trainer.data.archive import Archive
from trainer.entry import Entry, Hyper, Metric, Score, Split

# Of the card that came with an export, the gate holds the version to these keys. All else on it is
# only claimed.
_BINDING = ("signatures", "tolerance", "budget")
_PACKAGES = ("keras", "numpy", "tensorflow-cpu", "tensorflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How the version was trained."""

    hyper: Hyper
    # full, quick or chosen.
    settings_are: str
    seed: int
    # The scores of all seeds that were trained; the version is the median one.
    scores: Mapping[int, Score]
    folds: int
    cpu_s: float
    wall_s: float


def of_training(entry: Entry, data: Split, score: Score, training: TrainingRecord) -> Card:
    return {
        "model": entry.name,
        "summary": entry.summary,
        "quick": training.settings_are == "quick",
        **_figures(entry, data, score),
        "seeds": {str(seed): trial.value for seed, trial in training.scores.items()},
        "folds": training.folds,
        "data": [_archive(archive) for archive in data.data],
        "rows": {
            "train": _count(data.train),
            "validation": _count(data.validation),
            "held_out": _count(data.held_out),
        },
        "settings": {
            "are": training.settings_are,
            **asdict(training.hyper),
            "seed": training.seed,
        },
        "signatures": {name: asdict(spec) for name, spec in entry.signatures.items()},
        "tolerance": entry.tolerance,
        "budget": asdict(entry.budget),
        "training": {"cpu_s": round(training.cpu_s, 2), "wall_s": round(training.wall_s, 2)},
        **_environment(),
    }


def of_export(name: str, export_card: Card) -> Card:
    """The card of an export that was not trained here.

    Nobody here has measured what its own card says of the model, so that becomes a claim.
    """
    card: Card = {"model": name}
    claimed = {}
    for key, value in export_card.items():
        if key in _BINDING:
            card[key] = value
        elif key != "files":
            claimed[key] = value
    if claimed:
        card["claimed"] = claimed
    return card


def finished(card: Card, folder: Path, *, parent: int | None) -> Card:
    """The card with what is known only once the files are written."""
    return {
        **card,
        "parent": parent,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": checksums(folder),
    }


def write(card: Card, folder: Path) -> None:
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def trainer_sha256() -> str:
    """A hash of the trainer's own files.

    It tells versions of the code apart where there is no checkout, as in an image.
    """
    total = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(path.read_bytes() + b"\0")
    return total.hexdigest()


def _figures(entry: Entry, data: Split, score: Score) -> Card:
    metric = entry.metric
    if data.bar is not None:
        metric = replace(metric, bar=data.bar)
    return {
        "metric": {
            **_metric(metric, score.value, score.baseline),
            "better": entry.metric.better,
            "max_regression": entry.metric.max_regression,
            "full_training_reaches": entry.typical,
        },
        "also": [_metric(other, score.also[other.name], other.guess) for other in entry.also],
        "figures": {entry.metric.name: score.value, **score.also},
    }


def _metric(metric: Metric, value: float, baseline: float) -> Card:
    return {
        "name": metric.name,
        "value": value,
        "baseline": baseline,
        "baseline_is": metric.baseline,
        "wanted": metric.requirement,
        "reached": metric.reached(Score(value, baseline)),
    }


def _archive(archive: Archive) -> Card:
    return {
        "archive": archive.file,
        "version": archive.version,
        "sha256": archive.sha256,
        "member": archive.member,
        "licence": archive.licence,
    }


def _count(arrays: Mapping[str, Any]) -> int:
    """The number of rows."""
    return len(next(iter(arrays.values()), ()))


def _environment() -> Card:
    return {
        "code": {
            "headrace": headrace.__version__,
            "commit": _commit(),
            "trainer_sha256": trainer_sha256(),
        },
        "packages": {name: _installed(name) for name in _PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "cpu": _cpu(),
        },
        "python": platform.python_version(),
    }


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checked-out commit, with -dirty if files were changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=root,
            capture_output=True,
            text=True,
        )
    except OSError:
        # git is not installed.
        return None
    return git.stdout.strip() or None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
