"""Every signature of every model, asked by REST through the running stack, gives the answer
recorded on its version."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests

from deploy.smoke import close
from headrace.store import card, golden, model_list
from tests.local import ROOT, LocalStack
from trainer import zoo
from trainer.exports import rest_example

MODELS = sorted(model.name for model in model_list.load(ROOT / "multimodel.config").models)
_EXAMPLE = re.compile(
    r"`POST /v1/models/(\w+):(\w+)`\n\n```json\n(.*?)```\n\n```json\n(.*?)```", re.DOTALL
)
EXAMPLES = _EXAMPLE.findall((ROOT / "docs/reference/models.md").read_text())


def post(stack: LocalStack, model: str, method: str, body: Any) -> Any:
    data = body if isinstance(body, str) else json.dumps(body)
    answer = requests.post(f"{stack.http}/v1/models/{model}:{method}", data=data, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("model", MODELS)
def test_every_signature_answers_as_recorded(local_stack: LocalStack, model: str) -> None:
    version = local_stack.store / model / "1"
    made, recorded = card.read(version), golden.read(version)
    assert {request.signature_name for request in recorded} == made["signatures"].keys()
    for request in recorded:
        method = made["signatures"][request.signature_name]["method"]
        call = rest_example.from_golden(request, method)
        answer = post(local_stack, model, method, call.body)
        assert answer.keys() == call.answer.keys()
        assert close(call.answer, answer), (request.signature_name, call.answer, answer)
        if method != "predict":  # any signature may also be asked by its tensors
            tensors = rest_example.from_golden(request, "predict")
            assert close(tensors.answer, post(local_stack, model, "predict", tensors.body)), (
                request.signature_name
            )


@pytest.mark.parametrize(
    ("model", "method", "body", "wanted"), EXAMPLES, ids=lambda text: str(text)[:20]
)
def test_an_example_of_the_page_is_answered(
    local_stack: LocalStack, model: str, method: str, body: str, wanted: str
) -> None:
    """The page's answers are those of full trainings: here the figures differ, and what they are of
    does not."""
    answer = post(local_stack, model, method, body)
    assert outline(answer) == outline(json.loads(wanted))
    if model == "half_plus_two":
        assert answer == json.loads(wanted)


def test_every_model_has_an_example_on_the_page() -> None:
    assert {model for model, *_ in EXAMPLES} == set(zoo.names()) - {
        "mnist_mlp"
    }  # 784 numbers help nobody


def outline(value: Any) -> Any:
    """What is left when every number is forgotten: names, labels and shapes."""
    if isinstance(value, dict):
        return {name: outline(item) for name, item in value.items()}
    if isinstance(value, list):
        return [outline(item) for item in value]
    return "#" if isinstance(value, int | float) else value
