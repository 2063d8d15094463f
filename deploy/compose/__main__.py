"""`python -m deploy.compose VERB`: the containers alone, as `make VERB RUNTIME=compose`; and
`images`, which writes docs/reference/images.md."""

from __future__ import annotations

import os
import sys

from deploy.compose import engine, images, settings
from deploy.compose.choice import choose
from deploy.compose.stack import Stack
from deploy.terminal import Stop, say


def main(verb: str, *words: str) -> int:
    environ = {**os.environ, "RUNTIME": "compose"}
    try:
        here = settings.from_environment(environ)
        if verb == "up":
            choice = choose(here.environment, engine.look())
            say(f"Runtime: {choice}.")
            Stack(here, choice.serving).up()
            return 0
        return _other(verb, words, Stack(here))
    except Stop as stop:
        sys.stdout.flush()
        print(stop, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _other(verb: str, words: tuple[str, ...], stack: Stack) -> int:
    match verb:
        case "down":
            stack.down()
        case "status":
            return 0 if stack.status() else 1
        case "logs":
            stack.logs(follow="--follow" in words)
        case "reload":
            stack.reload()
        case "trainer":
            stack.trainer(*words)
        case "promote" | "rollback" | "gc":
            stack.versions(verb, *words)
        case "images":
            images.PAGE.write_text(images.render())
            say(f"{images.PAGE} is written.")
        case _:
            raise Stop(
                f"{verb} is not a verb: up, down, status, logs, reload, trainer, promote, "
                "rollback, gc or images."
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["help"]))
