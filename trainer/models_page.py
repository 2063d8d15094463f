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
            path = folders.version_path(versions.folder(name, settings), present[-1])
            cards[name] = card.read(path)
            requests[name] = golden.read(path)
    missing = " ".join(name for name in zoo.names() if "metric" not in cards.get(name, {}))
    if missing:
        print(
            f"no trained version here of: {missing}; run: python -m trainer train {missing}",
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
    seeds = "1"
    if len(model_card["seeds"]) > 1:
        seeds = ", ".join(f"{value:.4g}" for value in model_card["seeds"].values())
    for metric in (model_card["metric"], *model_card["also"]):
        cells = (
            model_card["model"],
            _figure(metric),
            f"{metric['baseline']:.4g} ({metric['baseline_is']})",
            metric["wanted"],
            seeds,
            model_card["settings"]["are"],
        )
        yield f"| {' | '.join(cells)} |\n"
        seeds = ""


def _figure(metric: Mapping[str, Any]) -> str:
    text = f"{metric['name']} {metric['value']:.4g}"
    return text if metric["reached"] else f"{text} (below)"


def _section(name: str, model_card: Card) -> str:
    lines = [f"\n## {name}\n\n`{model_card['summary']}`\n", f"* rows: {_row_counts(model_card)}"]
    for source in model_card["data"]:
        lines.append(f"* data: {source['archive']}; {source['licence']}")
    if not model_card["data"]:
        lines.append("* data: none needed")
    if model_card["settings"]["epochs"]:
        lines.append(f"* training: {_training(model_card)}")
    lines.append("\n| signature | inputs | outputs | method |\n|---|---|---|---|")
    for signature, spec in model_card["signatures"].items():
        inputs = _columns(spec["inputs"])
        outputs = _columns(spec["outputs"])
        lines.append(f"| {signature} | {inputs} | {outputs} | {spec['method']} |")
    return "\n".join(lines) + "\n"


def _row_counts(model_card: Card) -> str:
    counts = []
    for side, count in model_card["rows"].items():
        if count:
            counts.append(f"{count} {side.replace('_', ' ')}")
    text = ", ".join(counts)
    if model_card["folds"] > 1:
        text += f", mean of {model_card['folds']} folds"
    return text


def _training(model_card: Card) -> str:
    hyper, training = model_card["settings"], model_card["training"]
    return (
        f"{hyper['epochs']} epochs at most, batches of {hyper['batch_size']}, "
        f"learning rate {hyper['learning_rate']:g}; {training['cpu_s']:.0f} s of CPU in all, "
        f"{training['wall_s']:.0f} s on {model_card['hardware']['cpus']} cores"
    )


def _examples(name: str, model_card: Card, requests: Sequence[GoldenRequest]) -> Iterator[str]:
    """The first row of each golden request, as a REST call."""
    for request in requests:
        method = model_card["signatures"][request.signature_name]["method"]
        example = rest_example.from_golden(rest_example.first_row(request), method)
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
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _columns(specs: Mapping[str, str]) -> str:
    return ", ".join(f"`{alias}` {spec}" for alias, spec in specs.items())


if __name__ == "__main__":
    sys.exit(main())
