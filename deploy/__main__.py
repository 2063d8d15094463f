"""What `make` calls: python -m deploy VERB. Standard library only, on any Python from 3.11."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy import smoke
from deploy.compose.runtime import AnyStack, stack_for
from deploy.local import settings, venv
from deploy.local.stack import Stack as LocalStack
from deploy.terminal import Stop, say

_OF_VERSIONS = ("promote", "rollback", "gc")


def main(verb: str, *arguments: str) -> int:
    """0 done, 1 not: the last line says what to do."""
    # So that what was started is stopped again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(verb, arguments, os.environ)
    except Stop as stop:
        sys.stdout.flush()
        print(stop, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `make status | head`: whoever read has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{error.filename or 'The system'}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _run(verb: str, arguments: tuple[str, ...], environ: Mapping[str, str]) -> int:
    if verb == "setup":
        venv.ensure(*arguments)
        return 0
    if verb == "restart":
        _restart(environ)
        return 0
    if verb not in (
        "up",
        "down",
        "status",
        "logs",
        "reload",
        "smoke",
        "train",
        "tensorboard",
        *_OF_VERSIONS,
    ):
        raise Stop(f"{verb} is not a verb; `make help` lists them.")
    store = settings.from_environment(environ).store
    stack = stack_for(verb, environ)
    match verb:
        case "up":
            _up(stack, store)
        case "down":
            stack.down()
        case "status":
            return 0 if stack.status() else 1
        case "logs":
            stack.logs(follow=environ.get("FOLLOW") != "0")
        case "reload":
            stack.reload()
        case "smoke":
            smoke.smoke(stack.gateway, store)
        case "train":
            stack.train(*arguments)
        case "tensorboard":
            stack.tensorboard(*arguments)
        case _:
            stack.versions(verb, *_words(verb, *arguments))
    return 0


def _up(stack: AnyStack, store: Path) -> None:
    stack.up()
    _introduce(stack, store)


def _restart(environ: Mapping[str, str]) -> None:
    """Down and up, in the runtime that runs; not down where the settings would keep it from coming
    up again."""
    running = stack_for("down", environ)
    if running.is_up:
        environ = {"RUNTIME": "local" if isinstance(running, LocalStack) else "compose", **environ}
    stack = stack_for("up", environ)
    stack.check()
    running.down()
    _up(stack, settings.from_environment(environ).store)


def _words(verb: str, model: str = "", number: str = "") -> list[str]:
    """For the trainer, from MODEL and TO or KEEP of make; what is empty was not given."""
    if verb == "gc":
        return [*(["--keep", number] if number else []), *model.split()]
    if not model:
        raise Stop(f"Which model? make {verb} MODEL=NAME; `make status` lists them.")
    return [model, *([number] if number else [])]


def _introduce(stack: AnyStack, store: Path) -> None:
    call = f"{stack.gateway}/v1/models"
    if '"half_plus_two"' in (store / "multimodel.config").read_text():
        call = (
            f"-d '{{\"instances\": [1.0, 2.0, 5.0]}}' "
            f"{stack.gateway}/v1/models/half_plus_two:predict"
        )
    say(f"""
  REST      {stack.gateway}     (/docs, /readyz, /metrics, /v1/models)
  gRPC      {stack.grpc}
  logs      {stack.where_logs_are}

Try it:
  curl {call}
""")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
