"""Limits that no caller sees."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "after"), [(256, 20_000, 2024), (256, 900, 900), (5000, 20_000, 5000)]
)
def test_descriptors_are_allowed_up_to_what_the_system_lets(
    soft: int, hard: int, after: int
) -> None:
    code = f"""
import resource
from headrace.http.limits import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_descriptor_limit(1000)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(after), str(hard)]
