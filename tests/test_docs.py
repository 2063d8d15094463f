"""README and docs tell the truth: their calls are made on the real stack, their verbs, links and
settings exist."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.local.local_settings import LocalSettings
from headrace.codec.json import rapidjson
from headrace.protocol import dtypes, tensors
from headrace.store import golden as store_golden
from tests.local import ROOT, LocalStack
from trainer.exports import golden

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e-?\d+)?")
_REQUEST_ID = re.compile(r'(?<="request_id": ")[0-9a-f]{16}(?=")')
# Training gives other digits on another kind of processor; the answers of half_plus_two are exact
# all the same.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    answer: str | None  # the block that follows at once

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(_FENCE.finditer(text))
    blocks = []
    for i, fence in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        at_once = (
            after is not None
            and not text[fence.end() : after.start()].strip()
            and after[1] in ("json", "text")
        )
        line = text.count("\n", 0, fence.start()) + 1
        blocks.append(
            Block(page, line, fence[1], fence[2], after[2] if after and at_once else None)
        )
    return blocks


BLOCKS = [block for page in PAGES for block in _blocks(page)]
COMMANDS = [
    (b, line.split(" #")[0].strip())
    for b in BLOCKS
    if b.language == "sh"
    for line in b.text.splitlines()
]
RUN = [
    b
    for b in BLOCKS
    if b.language == "python" or (b.language == "sh" and b.text.startswith(("curl ", "headrace ")))
]


def _verbs() -> dict[str, str]:
    told = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return dict(re.findall(r"^ +make ([a-z-]+) +(\S.*)$", told, re.MULTILINE))


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.place)
def test_a_call_gives_the_answer_beside_it(block: Block, local_stack: LocalStack) -> None:
    assert block.answer is not None, f"{block.place}: no answer stands below it"
    text = _moved(block.text, local_stack)
    if block.language == "python":
        got = _output([sys.executable, "-W", "error", "-c", text])
    elif text.startswith("headrace "):
        got = _output([sys.executable, "-m", *shlex.split(text), "--url", local_stack.http])
    else:
        got = _curl(shlex.split(text))
    _assert_alike(got, block.answer)


def test_readme_has_a_curl_call_and_a_python_call():
    mine = [b for b in RUN if b.page.name == "README.md"]
    assert {b.language for b in mine} == {"sh", "python"}


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{b.place} {c[:30]}" for b, c in COMMANDS]
)
def test_a_command_exists(block: Block, command: str) -> None:
    words = shlex.split(command)
    match words:
        case ["make", verb, *_]:
            assert verb in _verbs()
        case ["headrace", verb, *_]:
            assert re.search(
                rf"^ +{verb} ", _output([sys.executable, "-m", "headrace", "--help"]), re.MULTILINE
            )
        case [".venv/bin/python", "-m", module, verb, *_]:
            assert re.search(
                rf"^ +{verb} ", _output([sys.executable, "-m", module, "--help"]), re.MULTILINE
            )
        case ["curl", *_]:
            assert block in RUN
        case ["docker", "compose", *rest]:
            for option, name in pairwise(rest):
                assert option != "-f" or (ROOT / name).exists(), name
        case ["export", *_]:
            pass
        case _:
            raise AssertionError(f"{block.place}: nothing here knows how to check {command!r}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_verbs_named_in_the_text_exist(page: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    assert named <= _verbs().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES[1:]:
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"({name})" in index, name


def test_every_file_the_architecture_names_exists():
    page = (ROOT / "docs" / "concepts" / "architecture.md").read_text()
    paths = re.findall(r"`((?:headrace|gateway|trainer|deploy|tests)/[\w./]*)`", page)
    assert len(paths) > 50
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_help_lists_every_verb():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony and set(phony[1].split()) == _verbs().keys()


def test_every_setting_is_documented_with_its_default():
    table = (ROOT / "docs" / "guides" / "getting-started.md").read_text()
    for field in dataclasses.fields(LocalSettings):
        default = field.default
        shown = (
            default.relative_to(ROOT)
            if isinstance(default, Path)
            else f"{default:g}"
            if isinstance(default, float)
            else default
        )
        assert f"| `HEADRACE_{field.name.upper()}` | {shown} |" in table, field.name


def test_limits_that_differ_from_tensorflow_servings_are_those_of_the_code():
    page = (ROOT / "docs" / "compatibility.md").read_text()
    told = re.search(r"the same up to 2\^(\d+) elements, 2\^(\d+) of text, then refused", page)
    assert told and (2 ** int(told[1]), 2 ** int(told[2])) == (
        tensors.MAX_ELEMENTS,
        tensors.MAX_STRINGS,
    )
    told = re.search(r"JSON of more than 2\^(\d+) lists and objects", page)
    assert told and 2 ** int(told[1]) == rapidjson.MOST_HOLDERS


def test_golden_requests_look_as_the_trainer_writes_and_reads_them(tmp_path: Path):
    (block,) = [b for b in BLOCKS if b.page.name == "versions.md" and '"signature_name"' in b.text]
    path = tmp_path / golden.FILE
    path.parent.mkdir()
    path.write_text(block.text)
    (request,) = store_golden.read(tmp_path)
    x = golden.to_array(request.inputs["x"], dtypes.FLOAT)
    y = golden.to_array(request.outputs["y"], dtypes.FLOAT)
    assert (x / 2 + 2 == y).all()

    served = SimpleNamespace(
        serving_default=lambda x: {"y": SimpleNamespace(numpy=lambda: x / 2 + 2)}
    )
    assert golden.record(served, {request.signature_name: {"x": x}}) == [request]


def _moved(text: str, stack: LocalStack) -> str:
    """To the ports of the stack under test."""
    http, grpc = (stack.ports[f"HEADRACE_{name}_PORT"] for name in ("HTTP", "GRPC"))
    return text.replace("127.0.0.1:8000", f"127.0.0.1:{http}").replace(
        "127.0.0.1:8001", f"127.0.0.1:{grpc}"
    )


def _output(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _curl(words: list[str]) -> str:
    if shutil.which("curl"):
        return _output(words)
    curl, option, body, url = words  # the same call on a machine without curl
    assert (curl, option) == ("curl", "-d")
    try:
        with urllib.request.urlopen(url, body.encode(), timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _assert_alike(got: str, wanted: str) -> None:
    """The same text but for the digits of numbers and a call's id; JSON is laid out as TensorFlow
    Serving does it."""
    plain = [
        " ".join(_REQUEST_ID.sub("#", _NUMBER.sub("#", text)).split()) for text in (got, wanted)
    ]
    assert plain[0] == plain[1]
    for mine, theirs in zip(_NUMBER.findall(got), _NUMBER.findall(wanted), strict=True):
        assert math.isclose(float(mine), float(theirs), rel_tol=_TOLERANCE), (
            json.dumps(got),
            json.dumps(wanted),
        )
