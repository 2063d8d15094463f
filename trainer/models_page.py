"""docs/reference/models.md, from the cards of the newest published versions: `python -m
trainer.models_page`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.store import folders
from trainer import settings, zoo
from trainer.exports import asked, card, golden
from trainer.exports.card import Card
from trainer.exports.golden import Golden
from trainer.store import shelf

# Characters of a body that is shown.
_LONGEST = 1500
PAGE = Path(__file__).resolve().parent.parent / "docs/reference/models.md"
_HEAD = """# Models

What the zoo's models reach, from the cards of their published versions. `.venv/bin/python -m
trainer.models_page` writes this page, `.venv/bin/python -m trainer show NAME` prints a whole card.
Figures are of held-out rows that no training saw; where several seeds were trained, the published
model is that of the median. Each signature whose example is short has one, with that model's
answer; all of them lie beside each version, in `assets.extra/golden.json`, and the gateway's
`/docs` sends them.

| model | figure | baseline | wanted | seeds | settings |
|---|---|---|---|---|---|
"""


def main() -> int:
    where = settings.from_environment(os.environ)
    cards, recorded = {}, {}
    for name in zoo.names():
        if present := shelf.versions(name, where):
            version = folders.version_path(shelf.folder(name, where), present[-1])
            cards[name], recorded[name] = card.read(version), golden.read(version)
    if missing := [name for name in zoo.names() if "metric" not in cards.get(name, {})]:
        print(
            f"no version of a training here: {', '.join(missing)}; python -m trainer train "
            f"{' '.join(missing)}",
            file=sys.stderr,
        )
        return 1
    PAGE.write_text(page(cards, recorded), encoding="utf-8")
    print(f"{PAGE} written, {len(cards)} models")
    return 0


def page(cards: Mapping[str, Card], recorded: Mapping[str, Sequence[Golden]]) -> str:
    rows = [line for made in cards.values() for line in _rows(made)]
    sections = (
        _section(name, made) + _examples(name, made, recorded.get(name, ()))
        for name, made in cards.items()
    )
    return _HEAD + "".join(f"{row}\n" for row in rows) + "".join(sections)


def _rows(made: Card) -> Iterator[str]:
    seeds = made["seeds"]
    drawn = ", ".join(f"{value:.4g}" for value in seeds.values()) if len(seeds) > 1 else "1"
    for metric in (made["metric"], *made["also"]):
        yield (
            f"| {made['model']} | {_figure(metric)} | {metric['baseline']:.4g} "
            f"({metric['baseline_is']}) "
            f"| {metric['wanted']} | {drawn} | {made['settings']['are']} |"
        )
        drawn = ""


def _figure(metric: Mapping[str, Any]) -> str:
    return f"{metric['name']} {metric['value']:.4g}" + ("" if metric["reached"] else " (below)")


def _section(name: str, made: Card) -> str:
    told = [f"\n## {name}\n\n`{made['summary']}`\n\n"]
    folds = f", mean of {made['folds']} folds" if made["folds"] > 1 else ""
    rows = ", ".join(
        f"{count} {side.replace('_', ' ')}" for side, count in made["rows"].items() if count
    )
    told.append(f"* rows: {rows}{folds}\n")
    told += [f"* data: {source['archive']}; {source['licence']}\n" for source in made["data"]] or [
        "* data: none needed\n"
    ]
    hyper, training = made["settings"], made["training"]
    if hyper["epochs"]:
        told.append(
            f"* training: {hyper['epochs']} epochs at most, batches of {hyper['batch_size']}, "
            "learning rate "
            f"{hyper['learning_rate']:g}; {training['cpu_s']:.0f} s of CPU in all, "
            f"{training['wall_s']:.0f} s on "
            f"{made['hardware']['cpus']} cores\n"
        )
    told.append("\n| signature | takes | gives | asked by |\n|---|---|---|---|\n")
    for signature, promise in made["signatures"].items():
        takes, gives = (_columns(promise[side]) for side in ("inputs", "outputs"))
        told.append(f"| {signature} | {takes} | {gives} | {promise['method']} |\n")
    return "".join(told)


def _examples(name: str, made: Card, recorded: Sequence[Golden]) -> str:
    """The first row of each golden request, as a call by REST."""
    told = []
    for request in recorded:
        method = made["signatures"][request["signature_name"]]["method"]
        call = asked.call(asked.first_row(request), method)
        body, answer = (
            json.dumps(_rounded(part), ensure_ascii=False) for part in (call.body, call.answer)
        )
        if len(body) <= _LONGEST:
            told.append(
                f"\n`POST /v1/models/{name}:{method}`\n\n"
                f"```json\n{body}\n```\n\n```json\n{answer}\n```\n"
            )
    return "".join(told)


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
