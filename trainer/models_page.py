"""docs/reference/models.md, from the cards of the newest published versions: `python -m trainer.models_page`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.wire import store
from trainer import card, settings, shelf, zoo
from trainer.card import Card

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/models.md"
_HEAD = """# Models

What the zoo's models reach, from the cards of their published versions. `.venv/bin/python -m trainer.models_page`
writes this page, `.venv/bin/python -m trainer show NAME` prints a whole card. Figures are of held-out rows that no
training saw; where several seeds were trained, the published model is that of the median.

| model | figure | baseline | wanted | seeds | settings |
|---|---|---|---|---|---|
"""


def main() -> int:
    where = settings.from_environment(os.environ)
    cards = {}
    for name in zoo.names():
        if present := shelf.versions(name, where):
            cards[name] = card.read(store.version_path(shelf.folder(name, where), present[-1]))
    if missing := [name for name in zoo.names() if not cards.get(name)]:
        print(
            f"no version with a card: {', '.join(missing)}; python -m trainer train {' '.join(missing)}",
            file=sys.stderr,
        )
        return 1
    PAGE.write_text(page(cards), encoding="utf-8")
    print(f"{PAGE} written, {len(cards)} models")
    return 0


def page(cards: Mapping[str, Card]) -> str:
    rows = [line for made in cards.values() for line in _rows(made)]
    return _HEAD + "".join(f"{row}\n" for row in rows) + "".join(_section(name, made) for name, made in cards.items())


def _rows(made: Card) -> Iterator[str]:
    seeds = made["seeds"]
    drawn = ", ".join(f"{value:.4g}" for value in seeds.values()) if len(seeds) > 1 else "1"
    for metric in (made["metric"], *made["also"]):
        yield (
            f"| {made['model']} | {_figure(metric)} | {metric['baseline']:.4g} ({metric['baseline_is']}) "
            f"| {metric['wanted']} | {drawn} | {made['settings']['are']} |"
        )
        drawn = ""


def _figure(metric: Mapping[str, Any]) -> str:
    return f"{metric['name']} {metric['value']:.4g}" + ("" if metric["reached"] else " (below)")


def _section(name: str, made: Card) -> str:
    told = [f"\n## {name}\n\n`{made['summary']}`\n\n"]
    folds = f", mean of {made['folds']} folds" if made["folds"] > 1 else ""
    rows = ", ".join(f"{count} {side.replace('_', ' ')}" for side, count in made["rows"].items() if count)
    told.append(f"* rows: {rows}{folds}\n")
    told += [f"* data: {source['archive']}; {source['licence']}\n" for source in made["data"]] or [
        "* data: none needed\n"
    ]
    hyper, training = made["settings"], made["training"]
    if hyper["epochs"]:
        told.append(
            f"* training: {hyper['epochs']} epochs at most, batches of {hyper['batch_size']}, learning rate "
            f"{hyper['learning_rate']:g}; {training['cpu_s']:.0f} s of CPU in all, {training['wall_s']:.0f} s on "
            f"{made['hardware']['cpus']} cores\n"
        )
    told.append("\n| signature | takes | gives | asked by |\n|---|---|---|---|\n")
    for signature, promise in made["signatures"].items():
        takes, gives = (_columns(promise[side]) for side in ("inputs", "outputs"))
        told.append(f"| {signature} | {takes} | {gives} | {promise['method']} |\n")
    return "".join(told)


def _columns(specs: Mapping[str, str]) -> str:
    return ", ".join(f"`{alias}` {spec}" for alias, spec in specs.items())


if __name__ == "__main__":
    sys.exit(main())
