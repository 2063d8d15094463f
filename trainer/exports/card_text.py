"""A model card for people: as one line, and as lines with titles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.store.card import Card

# One part of a card, an object of its JSON.
Section = Mapping[str, Any]

# Characters shown of a claim.
_CLAIM_LENGTH = 100


def line(card: Card) -> str:
    """For example: accuracy 0.9756 (the commonest digit: 0.08554), quick settings: full ones reach
    about 0.978"""
    claimed = card.get("claimed")
    try:
        if claimed is None:
            return _metric(card)
        return f"claimed, not checked here: {_metric(claimed)}"
    except (KeyError, TypeError, ValueError):
        # The card is not from our training.
        return "no figures on its card"


def lines(card: Card) -> list[tuple[str, str]]:
    """Pairs of title and text; what the card does not say is left out."""
    texts = []
    for title, value in _titled(card):
        if value not in (None, "", [], {}):
            texts.append((title, str(value)))
    return texts


def _titled(card: Card) -> Iterator[tuple[str, Any]]:
    exported = card.get("exported", {})
    rows = card.get("rows", {})
    settings = card.get("settings", {})

    yield "what", card.get("summary")
    yield "exported", _pairs(exported, length=40)
    yield "written", card.get("written")
    yield "parent", card.get("parent")
    for source in card.get("data", []):
        yield "data", _archive(source)
    yield "rows", _pairs(rows)
    yield "settings", _pairs(settings)
    for name, signature in card.get("signatures", {}).items():
        yield "signature", _signature(name, signature)
    yield "measured", _figures(card)
    for check in card.get("checks", []):
        yield "checked", _check(check)
    for reason in card.get("forced", []):
        yield "forced", reason
    yield "code", _code(card)
    for name, value in card.get("claimed", {}).items():
        yield "claimed", _claim(name, value)


def _metric(source: Section) -> str:
    """``source`` is a card, or what a card claims. Raises what a missing or odd value raises."""
    metric = source["metric"]
    settings = source["settings"]["are"]
    value = f"{metric['name']} {metric['value']:.4g}"
    baseline = f"{metric['baseline_is']}: {metric['baseline']:.4g}"
    text = f"{value} ({baseline})"
    if settings != "full":
        typical = metric["full_training_reaches"]
        text += f", {settings} settings: full ones reach about {typical:g}"
    return text


def _pairs(values: Section, *, length: int | None = None) -> str:
    """Names and values, the latter cut to ``length`` characters."""
    texts = []
    for name, value in values.items():
        text = str(value)[:length]
        texts.append(f"{name} {text}")
    return ", ".join(texts)


def _archive(source: Section) -> str:
    archive = source.get("archive")
    sha256 = str(source.get("sha256"))[:12]
    licence = source.get("licence")
    return f"{archive} sha256 {sha256}, {licence}"


def _signature(name: str, signature: Section) -> str:
    inputs = _pairs(signature.get("inputs", {}))
    outputs = _pairs(signature.get("outputs", {}))
    return f"{name}: {inputs} -> {outputs}"


def _figures(card: Card) -> str | None:
    figures = card.get("figures", {})
    if not figures:
        return None
    texts = []
    for name, value in figures.items():
        texts.append(f"{name} {value:.4g}")
    text = ", ".join(texts)
    return f"{text}, by the training here, on held-out rows"


def _check(check: Section) -> str:
    if check.get("passed"):
        verdict = "pass"
    elif check.get("binds"):
        verdict = "FAIL"
    else:
        verdict = "below"
    name = check.get("name")
    detail = check.get("detail")
    return f"{verdict} {name}: {detail}"


def _code(card: Card) -> str:
    code = {}
    for name, value in card.get("code", {}).items():
        if value:
            code[name] = value
    return _pairs(code, length=12)


def _claim(name: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _shortened(f"{name} {text}")


def _shortened(text: str) -> str:
    if len(text) <= _CLAIM_LENGTH:
        return text
    return f"{text[:_CLAIM_LENGTH]}..."
