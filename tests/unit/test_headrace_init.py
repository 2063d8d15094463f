"""The top of the library: public names come when asked for, and nothing heavy before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import headrace


@pytest.mark.parametrize("name", sorted(headrace._HOMES))
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(headrace, name).__name__ == name


def test_public_names_are_those_with_a_home() -> None:
    assert set(headrace.__all__) == {*headrace._HOMES, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = headrace.Clinet


def test_importing_headrace_imports_no_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import headrace; print(*(set(sys.modules) - "
        "before))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = {name.split(".")[0] for name in child.stdout.split()}
    assert "headrace" in loaded, child.stderr
    assert loaded <= {"headrace", *sys.stdlib_module_names}
