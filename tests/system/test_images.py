"""The images as they were built: the page about them tells the truth, and the gateway's is
small."""

from __future__ import annotations

import re
import subprocess

from deploy.compose import images
from tests.system.project import Compose

MB_ROW = re.compile(r"^\| MB \|.*$", re.MULTILINE)


def test_gateway_image_is_small_and_has_no_tensorflow(cold: Compose) -> None:
    assert images.size_mb("headrace-gateway:local", "python:3.11-slim") <= 220
    code = "import importlib.util as u; raise SystemExit(u.find_spec('tensorflow') is not None)"
    run = ["docker", "run", "--rm", "--entrypoint", "python", "headrace-gateway:local", "-c", code]
    assert subprocess.run(run, check=False).returncode == 0


def test_page_about_the_images_is_as_generated(cold: Compose) -> None:
    page, now = images.PAGE.read_text(), images.render()
    assert MB_ROW.sub("", page) == MB_ROW.sub("", now), "run: python -m deploy.compose images"
    told, found = (
        [int(n) for n in re.findall(r"\d+", MB_ROW.search(text)[0])] for text in (page, now)
    )
    for one, other in zip(told, found, strict=True):
        assert abs(one - other) <= max(10, 0.1 * other), f"the page says {one} MB, it is {other}"


def test_no_secret_of_the_build_is_in_an_image(cold: Compose) -> None:
    for name in images.IMAGES:
        history = subprocess.run(
            [
                "docker",
                "history",
                "--no-trunc",
                "--format",
                "{{.CreatedBy}}",
                f"headrace-{name}:local",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "index-url" not in history
        listed = ["docker", "run", "--rm", "--entrypoint", "ls", f"headrace-{name}:local", "/run"]
        assert (
            "secrets"
            not in subprocess.run(listed, capture_output=True, text=True, check=True).stdout
        )
