"""Writes docs/reference/models.md from the cards of the newest published versions.

Run it with `python -m trainer.models_page`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.store import card, folders, golden
from headrace.store.card import Card
from headrace.store.golden import GoldenRequest
from trainer import settings as trainer_settings
from trainer import zoo
from trainer.exports import rest_example
from trainer.store import versions

# Characters of a body that is shown.
_MAX_BODY = 1500
PAGE = Path(__file__).resolve().parent.parent / "docs/reference/models.md"
_HEAD = """# Models

The models of the zoo and what they reach, from the cards of their published versions.
`.venv/bin/python -m trainer.models_page` writes this page; `.venv/bin/python -m trainer show NAME`
prints a whole card. All figures are measured on held-out rows that no training saw. Where several
seeds were trained, the published model is the median one. Each signature with a short example is
shown with that model's answer. All examples lie beside each version, in
`assets.extra/golden.json`, and the gateway's `/docs` sends them.

| model | figure | baseline | wanted | seeds | settings |
|---|---|---|---|---|---|
"""


def main() -> int:
    settings = trainer_settings.from_environment(os.environ)
    cards: dict[str, Card] = {}
    requests: dict[str, list[GoldenRequest]] = {}
    for name in zoo.names():
        present = versions.complete(name, settings)
        if present:
            folder = versions.folder(name, settings)
            path = folders.version_path(folder, present[-1])
            cards[name] = card.read(path)
            requests[name] = golden.read(path)

    untrained = []
    for name in zoo.names():
        if "metric" not in cards.get(name, {}):
            untrained.append(name)
    if untrained:
        names = " ".join(untrained)
        print(
            f"no trained version here of: {names}; run: python -m trainer train {names}",
            file=sys.stderr,
        )
        return 1

    PAGE.write_text(page(cards, requests), encoding="utf-8")
    print(f"{PAGE} written, {len(cards)} models")
    return 0


def page(cards: Mapping[str, Card], requests: Mapping[str, Sequence[GoldenRequest]]) -> str:
    parts = [_HEAD]
    for model_card in cards.values():
        parts += _rows(model_card)
    for name, model_card in cards.items():
        parts.append(_section(name, model_card))
        parts += _examples(name, model_card, requests.get(name, ()))
    return "".join(parts)


def _rows(model_card: Card) -> Iterator[str]:
    """One row of the table for each metric; the seeds stand in the first."""
    name = model_card["model"]
    settings = model_card["settings"]["are"]
    seeds = "1"
    if len(model_card["seeds"]) > 1:
        values = [f"{value:.4g}" for value in model_card["seeds"].values()]
        seeds = ", ".join(values)
    for metric in (model_card["metric"], *model_card["also"]):
        cells = (
            name,
            _figure(metric),
            f"{metric['baseline']:.4g} ({metric['baseline_is']})",
            metric["wanted"],
            seeds,
            settings,
        )
        row = " | ".join(cells)
        yield f"| {row} |\n"
        seeds = ""


def _figure(metric: Mapping[str, Any]) -> str:
    text = f"{metric['name']} {metric['value']:.4g}"
    if not metric["reached"]:
        text += " (below)"
    return text


def _section(name: str, model_card: Card) -> str:
    lines = [
        f"\n## {name}\n",
        f"`{model_card['summary']}`\n",
        f"* rows: {_row_counts(model_card)}",
    ]
    for source in model_card["data"]:
        lines.append(f"* data: {source['archive']}; {source['licence']}")
    if not model_card["data"]:
        lines.append("* data: none needed")
    if model_card["settings"]["epochs"]:
        lines.append(f"* training: {_training(model_card)}")

    lines.append("\n| signature | inputs | outputs | method |")
    lines.append("|---|---|---|---|")
    for signature, spec in model_card["signatures"].items():
        inputs = _columns(spec["inputs"])
        outputs = _columns(spec["outputs"])
        method = spec["method"]
        lines.append(f"| {signature} | {inputs} | {outputs} | {method} |")
    return "\n".join(lines) + "\n"


def _row_counts(model_card: Card) -> str:
    counts = []
    for side, count in model_card["rows"].items():
        if count:
            title = side.replace("_", " ")
            counts.append(f"{count} {title}")
    text = ", ".join(counts)
    folds = model_card["folds"]
    if folds > 1:
        text += f", mean of {folds} folds"
    return text


def _training(model_card: Card) -> str:
    hyper = model_card["settings"]
    training = model_card["training"]
    cores = model_card["hardware"]["cpus"]
    return (
        f"{hyper['epochs']} epochs at most, "
        f"batches of {hyper['batch_size']}, "
        f"learning rate {hyper['learning_rate']:g}; "
        f"{training['cpu_s']:.0f} s of CPU in all, "
        f"{training['wall_s']:.0f} s on {cores} cores"
    )


def _examples(name: str, model_card: Card, requests: Sequence[GoldenRequest]) -> Iterator[str]:
    """The first row of each golden request, as a REST call."""
    for request in requests:
        signature = model_card["signatures"][request.signature_name]
        method = signature["method"]
        row = rest_example.first_row(request)
        example = rest_example.from_golden(row, method)
        body = _json(example.body)
        answer = _json(example.answer)
        if len(body) <= _MAX_BODY:
            yield (
                f"\n`POST /v1/models/{name}:{method}`\n\n"
                f"```json\n{body}\n```\n\n```json\n{answer}\n```\n"
            )


def _json(value: Any) -> str:
    return json.dumps(_rounded(value), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    """To the digits that a float32 has."""
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")
    return value


def _columns(specs: Mapping[str, str]) -> str:
    return ", ".join(f"`{alias}` {spec}" for alias, spec in specs.items())


if __name__ == "__main__":
    sys.exit(main())
