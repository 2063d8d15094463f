"""`python -m deploy.compose COMMAND`: the containers alone, as `make COMMAND RUNTIME=compose`.

`images` writes docs/reference/images.md.
"""

from __future__ import annotations

import os
import sys

from deploy.compose import compose_settings, engine, images
from deploy.compose.choice import choose
from deploy.compose.container_stack import ContainerStack
from deploy.terminal import Stop, say


def main(command: str, *words: str) -> int:
    environ = {**os.environ, "RUNTIME": "compose"}
    try:
        settings = compose_settings.from_environment(environ)
        if command == "up":
            choice = choose(settings.environment, engine.look())
            say(f"Runtime: {choice}.")
            ContainerStack(settings, choice.serving).up()
            return 0
        return _run(command, words, ContainerStack(settings))
    except Stop as stop:
        sys.stdout.flush()
        print(stop, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: str, words: tuple[str, ...], stack: ContainerStack) -> int:
    match command:
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
            stack.versions(command, *words)
        case "images":
            images.PAGE.write_text(images.render())
            say(f"{images.PAGE} is written.")
        case _:
            raise Stop(
                f"There is no command {command}; there are up, down, status, logs, reload, "
                "trainer, promote, rollback, gc and images."
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["help"]))
