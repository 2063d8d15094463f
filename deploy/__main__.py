"""What `make` calls: python -m deploy COMMAND. Standard library only, on any Python from 3.11."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy import smoke
from deploy.local import local_settings, venv
from deploy.local.process_stack import ProcessStack
from deploy.runtime import Stack, stack_for
from deploy.terminal import Stop, say

_VERSION_COMMANDS = ("promote", "rollback", "gc")
_COMMANDS = (
    "up",
    "down",
    "status",
    "logs",
    "reload",
    "smoke",
    "train",
    "tensorboard",
    *_VERSION_COMMANDS,
)


def main(command: str, *arguments: str) -> int:
    """0 when done; otherwise the last line says what to do."""
    # As an exception, so that what was started is stopped again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(command, arguments, os.environ)
    except Stop as stop:
        sys.stdout.flush()
        print(stop, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has read enough, as in `make status | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{error.filename or 'The system'}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _run(command: str, arguments: tuple[str, ...], environ: Mapping[str, str]) -> int:
    if command == "setup":
        venv.ensure(*arguments)
        return 0
    if command == "restart":
        _restart(environ)
        return 0
    if command not in _COMMANDS:
        raise Stop(f"There is no command {command}; `make help` lists them.")
    store = local_settings.from_environment(environ).store
    stack = stack_for(command, environ)
    match command:
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
            stack.versions(command, *_trainer_arguments(command, *arguments))
    return 0


def _up(stack: Stack, store: Path) -> None:
    stack.up()
    _introduce(stack, store)


def _restart(environ: Mapping[str, str]) -> None:
    """Down and up, in the same runtime; not down if the settings would prevent the start."""
    running = stack_for("down", environ)
    if running.is_up:
        runtime = "local" if isinstance(running, ProcessStack) else "compose"
        environ = {"RUNTIME": runtime, **environ}
    stack = stack_for("up", environ)
    stack.check()
    running.down()
    _up(stack, local_settings.from_environment(environ).store)


def _trainer_arguments(command: str, model: str = "", number: str = "") -> list[str]:
    """From make's MODEL and TO or KEEP; "" means that it was not given."""
    if command == "gc":
        keep = ["--keep", number] if number else []
        return [*keep, *model.split()]
    if not model:
        raise Stop(f"Which model? make {command} MODEL=NAME; `make status` lists them.")
    return [model, number] if number else [model]


def _introduce(stack: Stack, store: Path) -> None:
    call = f"{stack.gateway}/v1/models"
    if '"half_plus_two"' in (store / "multimodel.config").read_text():
        call = f"-d '{{\"instances\": [1.0, 2.0, 5.0]}}' {call}/half_plus_two:predict"
    say(f"""
  REST      {stack.gateway}     (/docs, /readyz, /metrics, /v1/models)
  gRPC      {stack.grpc}
  logs      {stack.where_logs_are}

Try it:
  curl {call}
""")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
