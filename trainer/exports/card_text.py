"""A model card for people: as one line, and as lines with titles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.store.card import Card

# Characters shown of a claim.
_CLAIM_LENGTH = 100


def line(card: Card) -> str:
    """For example: accuracy 0.9756 (the commonest digit: 0.08554), quick settings: full ones reach
    about 0.978"""
    claimed = card.get("claimed")
    prefix = "" if claimed is None else "claimed, not checked here: "
    source = card if claimed is None else claimed
    try:
        metric = source["metric"]
        settings = source["settings"]["are"]
        name, value = metric["name"], metric["value"]
        baseline_is, baseline = metric["baseline_is"], metric["baseline"]
        text = f"{prefix}{name} {value:.4g} ({baseline_is}: {baseline:.4g})"
        if settings != "full":
            typical = metric["full_training_reaches"]
            text += f", {settings} settings: full ones reach about {typical:g}"
    except (KeyError, TypeError, ValueError):
        # The card is not from our training.
        return "no figures on its card"
    return text


def lines(card: Card) -> list[tuple[str, str]]:
    """Pairs of title and text; what the card does not say is left out."""
    pairs: list[tuple[str, Any]] = [
        ("what", card.get("summary")),
        ("exported", _pairs(card.get("exported", {}), length=40)),
        ("written", card.get("written")),
        ("parent", card.get("parent")),
    ]
    for source in card.get("data", []):
        sha256 = str(source.get("sha256"))[:12]
        pairs.append(("data", f"{source.get('archive')} sha256 {sha256}, {source.get('licence')}"))
    pairs.append(("rows", _pairs(card.get("rows", {}))))
    pairs.append(("settings", _pairs(card.get("settings", {}))))
    for name, signature in card.get("signatures", {}).items():
        inputs = _pairs(signature.get("inputs", {}))
        outputs = _pairs(signature.get("outputs", {}))
        pairs.append(("signature", f"{name}: {inputs} -> {outputs}"))
    pairs.append(("measured", _figures(card)))
    for check in card.get("checks", []):
        text = f"{_verdict(check)} {check.get('name')}: {check.get('detail')}"
        pairs.append(("checked", text))
    for reason in card.get("forced", []):
        pairs.append(("forced", reason))
    code = {name: value for name, value in card.get("code", {}).items() if value}
    pairs.append(("code", _pairs(code, length=12)))
    for name, value in card.get("claimed", {}).items():
        pairs.append(("claimed", _shortened(f"{name} {json.dumps(value, ensure_ascii=False)}")))
    return [(title, str(text)) for title, text in pairs if text not in (None, "", [], {})]


def _pairs(values: Mapping[str, Any], *, length: int | None = None) -> str:
    """Names and values, the latter cut to ``length`` characters."""
    return ", ".join(f"{name} {str(value)[:length]}" for name, value in values.items())


def _figures(card: Card) -> str | None:
    figures = card.get("figures", {})
    if not figures:
        return None
    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"{text}, by the training here, on held-out rows"


def _verdict(check: Mapping[str, Any]) -> str:
    if check.get("passed"):
        return "pass"
    return "FAIL" if check.get("binds") else "below"


def _shortened(text: str) -> str:
    if len(text) <= _CLAIM_LENGTH:
        return text
    return f"{text[:_CLAIM_LENGTH]}..."
