"""docs/reference/models.md: made from cards, and of the models there are."""

from __future__ import annotations

import re

from headrace.store.golden import GoldenRequest
from trainer import models_page, zoo

CARD = {
    "model": "m",
    "summary": "text -> good or not",
    "metric": {
        "name": "accuracy",
        "value": 0.84994,
        "baseline": 0.5,
        "baseline_is": "a guess",
        "wanted": ">= 0.83",
        "reached": True,
    },
    "also": [
        {
            "name": "auc",
            "value": 0.9,
            "baseline": 0.5,
            "baseline_is": "a guess",
            "wanted": ">= 0.91",
            "reached": False,
        }
    ],
    "seeds": {"0": 0.8493, "1": 0.84994, "2": 0.86},
    "folds": 5,
    "data": [{"archive": "a.whl", "licence": "MIT"}],
    "rows": {"train": 80, "validation": 0, "held_out": 20},
    "settings": {"are": "full", "epochs": 6, "batch_size": 64, "learning_rate": 0.002, "seed": 1},
    "training": {"cpu_s": 120.4, "wall_s": 60.2},
    "hardware": {"cpus": 2},
    "signatures": {
        "serving_default": {
            "inputs": {"text": "string [-1]"},
            "outputs": {"good": "float [-1]"},
            "method": "predict",
        }
    },
}


def test_a_card_becomes_rows_and_a_section() -> None:
    request = GoldenRequest("serving_default", {"text": ["a", "b"]}, {"good": [0.5, 0.75]})
    page = models_page.page({"m": CARD}, {"m": [request]})
    assert (
        "| m | accuracy 0.8499 | 0.5 (a guess) | >= 0.83 | 0.8493, 0.8499, 0.86 | full |\n" in page
    )
    assert "| m | auc 0.9 (below) | 0.5 (a guess) | >= 0.91 |  | full |\n" in page
    assert "\n## m\n\n`text -> good or not`\n" in page
    assert "* rows: 80 train, 20 held out, mean of 5 folds\n" in page
    assert "* data: a.whl; MIT\n" in page
    assert "120 s of CPU in all, 60 s on 2 cores\n" in page
    assert "| serving_default | `text` string [-1] | `good` float [-1] | predict |\n" in page
    call = (
        '`POST /v1/models/m:predict`\n\n```json\n{"inputs": '
        '["a"]}\n```\n\n```json\n{"outputs": [0.5]}\n```\n'
    )
    assert page.endswith(call)


def test_an_example_too_long_to_read_is_left_out() -> None:
    request = GoldenRequest("serving_default", {"text": ["a" * 2000]}, {"good": [0.5]})
    assert "POST" not in models_page.page({"m": CARD}, {"m": [request]})


def test_the_page_in_the_tree_is_of_full_trainings_of_every_model() -> None:
    page = models_page.PAGE.read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    assert sections[0].startswith(models_page.page({}, {}))
    assert [section.split("\n")[0] for section in sections[1:]] == list(zoo.names())
    rows = [line.split(" | ") for line in sections[0].splitlines() if line.startswith("| ")][1:]
    assert {row[0].strip("| ") for row in rows} == set(zoo.names())
    for row in rows:
        assert row[-1] == "full |" and "(below)" not in row[1], row
    for name, section in zip(zoo.names(), sections[1:], strict=True):
        for signature, spec in zoo.find(name).signatures.items():
            assert f"| {signature} | " in section and section.count(f"| {spec.method} |") >= 1
