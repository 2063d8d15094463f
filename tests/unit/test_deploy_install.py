"""`make up` on a tree with nothing installed, where nothing can be had."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.local import ROOT, LocalStack
from tests.ports import hold_ports


@pytest.fixture
def bare_tree(tmp_path):
    """The project without anything made: no .venv, no caches."""
    return copied(tmp_path / "a tree")


@pytest.fixture(scope="module")
def emptied_tree(tmp_path_factory):
    """One whose .venv is made once and never filled, since making it takes seconds."""
    return copied(tmp_path_factory.mktemp("trees") / "a tree")


def copied(tree):
    for name in ("deploy", "gateway", "headrace", "requirements", "trainer"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "multimodel.config", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def make(tree, *verbs, **environment):
    stack = LocalStack.new(tree / "unused")
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("HEADRACE_", "MAKE", "MFLAGS", "PIP_", "PYTHON"))
    }
    return subprocess.run(
        ["make", *verbs],
        cwd=tree,
        env={
            **kept,
            "HOME": str(tree),
            **{k: str(v) for k, v in stack.ports.items()},
            "PIP_CONFIG_FILE": os.devnull,
            "RUNTIME": "local",
        }
        | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_network_the_sentence_says_how_to_go_on(emptied_tree):
    up = make(
        emptied_tree,
        "up",
        PIP_INDEX_URL=f"http://127.0.0.1:{hold_ports(1)[0]}/simple",
        PIP_RETRIES="1",
    )
    assert up.returncode != 0
    assert "The package index could not be reached" in up.stderr
    assert "it goes on where it stopped" in up.stderr
    assert "Traceback" not in up.stderr
    assert (emptied_tree / ".cache" / "install.log").exists()
    assert not (emptied_tree / ".run" / "supervisord.conf").exists()


def test_an_index_without_the_package_is_told_apart(emptied_tree):
    up = make(emptied_tree, "up", PIP_NO_INDEX="1")
    assert up.returncode != 0
    assert "No matching distribution found" in up.stderr
    assert "could not be reached" not in up.stderr


def test_down_and_status_need_nothing_installed(bare_tree):
    assert "Nothing runs" in make(bare_tree, "down").stdout
    status = make(bare_tree, "status")
    assert status.returncode != 0 and "Nothing runs" in status.stdout
    assert not (bare_tree / ".venv").exists()


def test_help_needs_nothing_at_all(bare_tree):
    told = make(bare_tree, "help", PYTHON="/nowhere/python")
    assert told.returncode == 0 and "make up" in told.stdout
