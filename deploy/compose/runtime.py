"""From a verb to the stack it works on: `up` chooses, every other verb takes what is up."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.compose import engine, settings
from deploy.compose.choice import ROOT, Choice, choose
from deploy.compose.stack import Stack
from deploy.local import settings as local_settings
from deploy.local.stack import Stack as LocalStack
from deploy.terminal import Stop, say

AnyStack = Stack | LocalStack


def stack_for(verb: str, environ: Mapping[str, str]) -> AnyStack:
    environ = {**settings.read_dotenv(ROOT / ".env"), **environ}
    containers = Stack(settings.from_environment(environ))
    processes = LocalStack(local_settings.from_environment(environ), environ)
    if verb != "up":
        return containers if _in_containers(environ, containers, processes) else processes
    choice = choose(environ, engine.look())
    say(f"Runtime: {choice}.")
    _refuse_two(choice, containers, processes)
    return processes if choice.runtime == "local" else Stack(containers.settings, choice.serving)


def _in_containers(environ: Mapping[str, str], containers: Stack, processes: LocalStack) -> bool:
    if runtime := environ.get("RUNTIME"):
        return runtime == "compose"
    return containers.settings.chosen.exists() and not processes.is_up


def _refuse_two(choice: Choice, containers: Stack, processes: LocalStack) -> None:
    if choice.runtime == "compose" and processes.is_up:
        raise Stop(
            "The stack is up already, in the local runtime: `make down` first, or RUNTIME=local."
        )
    if choice.runtime == "local" and containers.settings.chosen.exists():
        raise Stop("The stack is up already, in containers: `make down` first, or RUNTIME=compose.")
