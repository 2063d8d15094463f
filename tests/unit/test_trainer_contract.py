"""What of a version's signatures its callers rely on: each difference that breaks them is named,
and no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace.protocol import dtypes, messages
from headrace.protocol.dtypes import FLOAT, INT64
from headrace.protocol.signatures import Signature, TensorSpec
from tests.unit.toy import export
from trainer.exports import contract

Sides = tuple[dtypes.DType, tuple[int, ...] | None]


def signature(
    inputs: Mapping[str, Sides], outputs: Mapping[str, Sides], *, defaults: tuple[str, ...] = ()
) -> dict[str, Signature]:
    specs = [
        {
            alias: TensorSpec(alias, f"{alias}:0", dtype, shape, dtype.number)
            for alias, (dtype, shape) in side.items()
        }
        for side in (inputs, outputs)
    ]
    return {"s": Signature("s", *specs, defaults=dict.fromkeys(defaults))}


X, Y = {"x": (FLOAT, (-1, 2))}, {"y": (FLOAT, (-1,))}
LIVE = signature(X, Y)
TWO = signature({**X, "k": (INT64, ())}, {**Y, "p": (FLOAT, (-1, 3))}, defaults=("k",))


@pytest.mark.parametrize(
    ("live", "new", "told"),
    [
        (LIVE, {}, ["signature s is gone"]),
        (
            LIVE,
            signature({"x2": X["x"]}, Y),
            ["s: input x is gone", "s: input x2 is new and has no default"],
        ),
        (
            LIVE,
            signature({"x": (INT64, (-1, 2))}, Y),
            ["s: input x is int64 (?, 2), was float (?, 2)"],
        ),
        (
            LIVE,
            signature({"x": (FLOAT, (-1, 4))}, Y),
            ["s: input x is float (?, 4), was float (?, 2)"],
        ),
        (
            LIVE,
            signature({"x": (FLOAT, (8, 2))}, Y),
            ["s: input x is float (8, 2), was float (?, 2)"],
        ),
        (
            LIVE,
            signature({"x": (FLOAT, (-1, 2, 1))}, Y),
            ["s: input x is float (?, 2, 1), was float (?, 2)"],
        ),
        (
            signature({"x": (FLOAT, None)}, Y),
            LIVE,
            ["s: input x is float (?, 2), was float (unknown rank)"],
        ),
        (LIVE, signature({**X, "k": (INT64, ())}, Y), ["s: input k is new and has no default"]),
        (
            LIVE,
            signature({**X, "k": (INT64, ())}, Y, defaults=("k",)),
            ["s: input k is new, so REST takes x no longer without its name"],
        ),
        (
            TWO,
            signature({**X, "k": (INT64, ())}, {**Y, "p": (FLOAT, (-1, 3))}),
            ["s: input k has no default any more"],
        ),
        (
            LIVE,
            signature(X, {"z": Y["y"]}),
            ["s: output y is gone"],
        ),
        (LIVE, signature(X, {"y": (INT64, (-1,))}), ["s: output y is int64 (?,), was float (?,)"]),
        (
            LIVE,
            signature(X, {"y": (FLOAT, (-1, 1))}),
            ["s: output y is float (?, 1), was float (?,)"],
        ),
        (
            LIVE,
            signature(X, {"y": (FLOAT, None)}),
            ["s: output y is float (unknown rank), was float (?,)"],
        ),
        (
            LIVE,
            signature(X, {**Y, "p": (FLOAT, (-1, 3))}),
            ["s: output p is new, so REST gives y no longer without its name"],
        ),
    ],
)
def test_what_breaks_callers_is_named(
    live: dict[str, Signature], new: dict[str, Signature], told: list[str]
) -> None:
    assert list(contract.differences(live, new)) == told


@pytest.mark.parametrize(
    ("live", "new"),
    [
        (LIVE, LIVE),
        (LIVE, {**LIVE, "other": TWO["s"]}),
        ({**LIVE, "__saved_model_init_op": LIVE["s"]}, LIVE),
        (LIVE, signature({"x": (FLOAT, (-1, -1))}, Y)),
        (LIVE, signature({"x": (FLOAT, None)}, Y)),
        (signature(X, {"y": (FLOAT, None)}), LIVE),
        (signature(X, {"y": (FLOAT, (-1, 10))}), signature(X, {"y": (FLOAT, (-1, 12))})),
        (
            TWO,
            signature(
                {**X, "k": (INT64, ()), "j": (INT64, ())},
                {**Y, "p": (FLOAT, (-1, 3)), "q": (FLOAT, ())},
                defaults=("k", "j"),
            ),
        ),
    ],
    ids=[
        "same",
        "further signature",
        "initialisation",
        "free",
        "any rank",
        "a rank",
        "classes",
        "further, of several",
    ],
)
def test_what_breaks_nobody_is_not(live: dict[str, Signature], new: dict[str, Signature]) -> None:
    assert list(contract.differences(live, new)) == []


def test_signatures_are_read_from_text_too(tmp_path: Path) -> None:
    folder = export(tmp_path / "m")
    binary = folder / "saved_model.pb"
    known = contract.read(folder)
    (folder / "saved_model.pbtxt").write_text(
        messages.render_text(messages.SavedModel.FromString(binary.read_bytes()))
    )
    binary.unlink()
    assert contract.read(folder) == known
    assert known["serving_default"].inputs["x"].shape == (-1,)


def test_a_live_version_that_cannot_be_read_keeps_no_other_out(tmp_path: Path) -> None:
    good, bad = export(tmp_path / "good"), export(tmp_path / "bad")
    (bad / "saved_model.pb").write_bytes(b"no model")
    assert not contract.against_live(good, bad, version=1).refuses
    assert contract.against_live(bad, good, version=1).refuses
