"""A lock file that cannot be written names its owner."""

from __future__ import annotations

import os
import pwd
import re
import tempfile
from pathlib import Path

import pytest

from deploy.file_lock import exclusive
from deploy.terminal import Stop


@pytest.fixture
def others_folder():
    """A folder that everybody may enter, and the lock of another user in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "lock").touch(mode=0o444)
        if os.getuid():
            yield folder
            return
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def test_a_lock_of_another_user_says_whose_it_is(others_folder):
    me = pwd.getpwuid(os.getuid()).pw_name
    whose = re.escape(f"{others_folder}/lock cannot be written: it belongs to {me}. Name another.")
    with (
        pytest.raises(Stop, match=f"^{whose}$"),
        exclusive(others_folder / "lock", advice="Name another."),
    ):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="everybody may write into a folder of their own")
def test_a_folder_of_another_user_says_whose_it_is(others_folder):
    with (
        pytest.raises(Stop, match=f"{others_folder} belongs to root"),
        exclusive(others_folder / "run" / "lock"),
    ):
        pass
