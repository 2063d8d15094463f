"""From a command to the stack it works on: `up` chooses, every other one takes what is up."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.compose import compose_settings, engine
from deploy.compose.choice import ROOT, Choice, choose
from deploy.compose.container_stack import ContainerStack
from deploy.local import local_settings
from deploy.local.process_stack import ProcessStack
from deploy.terminal import Stop, say

Stack = ContainerStack | ProcessStack


def stack_for(command: str, environ: Mapping[str, str]) -> Stack:
    environ = {**compose_settings.read_dotenv(ROOT / ".env"), **environ}
    containers = ContainerStack(compose_settings.from_environment(environ))
    processes = ProcessStack(local_settings.from_environment(environ), environ)
    if command != "up":
        return containers if _uses_containers(environ, containers, processes) else processes
    choice = choose(environ, engine.look())
    say(f"Runtime: {choice}.")
    _refuse_two_stacks(choice, containers, processes)
    if choice.runtime == "local":
        return processes
    return ContainerStack(containers.settings, choice.serving)


def _uses_containers(
    environ: Mapping[str, str], containers: ContainerStack, processes: ProcessStack
) -> bool:
    runtime = environ.get("RUNTIME")
    if runtime:
        return runtime == "compose"
    return containers.was_started and not processes.is_up


def _refuse_two_stacks(choice: Choice, containers: ContainerStack, processes: ProcessStack) -> None:
    if choice.runtime == "compose" and processes.is_up:
        raise Stop(
            "The stack is up already, in the local runtime: `make down` first, or RUNTIME=local."
        )
    if choice.runtime == "local" and containers.was_started:
        raise Stop("The stack is up already, in containers: `make down` first, or RUNTIME=compose.")
