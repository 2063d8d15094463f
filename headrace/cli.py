"""The command line: headrace serve | predict | status | models | check-config | render | doctor.

Every verb imports what it needs when it runs, so that ``headrace --help`` costs next to nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.protocol.errors import HeadraceError
    from headrace.protocol.version_policy import VersionPolicy
    from headrace.store.model_list import ServingConfig

_Verb = Callable[[argparse.Namespace], int]

_EXAMPLES = """examples:
  headrace serve my_model --rest_api_port=8501
  headrace serve --model_config_file=models/multimodel.config --models_root=models
  headrace predict half_plus_two --data '[1.0, 2.0, 5.0]'
  headrace models
  headrace check-config multimodel.config
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        # Its flags are TensorFlow Serving's, which argparse must not touch.
        return _serve(arguments[1:])
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.verb is None:
        parser.print_help()
        return 2
    return _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    from headrace.protocol.errors import HeadraceError

    verb: _Verb = parsed.run
    try:
        return verb(parsed)
    except HeadraceError as error:
        advice = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"headrace: {error.message}{advice}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `headrace models | head`: whoever read has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


@contextmanager
def _server(parsed: argparse.Namespace) -> Iterator[Client]:
    """The server that is meant; what goes wrong in a call to it is noted with what to do next."""
    from headrace import client
    from headrace.client import address
    from headrace.protocol.errors import HeadraceError

    url = parsed.url or address.from_environment(os.environ)
    with client.Client(url, timeout_s=parsed.timeout) as server:
        try:
            yield server
        except HeadraceError as error:
            if advice := _advice(error, parsed, url):
                error.add_note(advice)
            raise


def _advice(error: HeadraceError, parsed: argparse.Namespace, url: str) -> str:
    """What to do next, where the error itself does not say. The stack's own verbs only for the
    stack's own address."""
    from headrace.client.errors import Unreachable, WrongProtocol
    from headrace.protocol import errors

    if isinstance(error, Unreachable):
        if parsed.url:
            return ""
        if not _is_the_stack(parsed):
            return "This address is that of HEADRACE_URL; --url names another."
        return (
            "Not started yet? `make up` starts the stack, `headrace serve` a server; --url "
            "names another address."
        )
    if isinstance(error, errors.DeadlineExceeded):
        look = ", or look whether the server is well: `make logs`" if _is_the_stack(parsed) else ""
        return f"Give it more time with --timeout SECONDS{look}."
    is_about_models = isinstance(error, errors.NotFound | errors.InvalidArgument)
    if not is_about_models or isinstance(error, WrongProtocol) or parsed.verb == "models":
        return ""
    if not url.startswith("http"):
        # GRPC has no call that lists models.
        return ""
    where = f" --url {url}" if parsed.url else ""
    return f"`headrace models{where}` lists what is served and what each model takes."


def _is_the_stack(parsed: argparse.Namespace) -> bool:
    """Whether the address is that of this machine's stack: nobody named another."""
    return not (parsed.url or os.environ.get("HEADRACE_URL"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Serve TensorFlow models and talk to those who do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", title="verbs", metavar="VERB")
    _add(
        verbs,
        "serve",
        "run a server: of the models at a path, or with TensorFlow Serving's flags (`headrace "
        "serve --help`)",
        None,
    )
    _add_predict(verbs)
    status = _add(
        verbs,
        "status",
        "the versions of a model and their states; 1 when none is AVAILABLE",
        _status,
    )
    status.epilog = """examples:
  headrace status mnist_cnn
  headrace status mnist_cnn --url grpc://127.0.0.1:8500"""
    status.add_argument("model", metavar="MODEL")
    _add_address(status)
    models = _add(
        verbs, "models", "the models a gateway serves, and what each takes and gives", _models
    )
    models.epilog = "example:\n  headrace models --url http://127.0.0.1:8000"
    _add_address(models)
    check = _add(
        verbs,
        "check-config",
        "check a model config; a fault is told as file:line:column",
        _check_config,
    )
    check.epilog = "example:\n  headrace check-config multimodel.config && make reload"
    check.add_argument("file", metavar="FILE", type=Path)
    _add_store(check, "the folder of models, where labels are looked up")
    render = _add(
        verbs, "render", "write the live config into the store from the one you edit", _render
    )
    render.epilog = "example:\n  headrace render --config multimodel.config --store models"
    _add_config(render)
    _add_store(render)
    doctor = _add(
        verbs,
        "doctor",
        "look over this machine, the store and the config; 1 when one needs you",
        _doctor,
    )
    doctor.epilog = """example:
  HEADRACE_HTTP_PORT=9000 headrace doctor

HEADRACE_URL, where it is set, is asked whether a gateway or a server answers there."""
    _add_config(doctor)
    _add_store(doctor)
    return parser


def _add(verbs: Any, name: str, help: str, run: _Verb | None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=help, description=help, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def _add_predict(verbs: Any) -> None:
    parser = _add(verbs, "predict", "send one request and print the answer as JSON", _predict)
    parser.epilog = """examples:
  headrace predict half_plus_two --data '[1.0, 2.0, 5.0]'
  headrace predict linear_model --signature columns --data '{"weight": [3504.0], ...}'
  headrace predict mnist_cnn --file images.npy --url grpc://127.0.0.1:8001
  cat rows.json | headrace predict linear_model -

data: nested lists for a signature with one input, else an object by input name;
{"b64": "..."} stands for bytes"""
    parser.add_argument("model", metavar="MODEL")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", metavar="JSON", help="the inputs as JSON")
    data.add_argument(
        "--file", metavar="FILE", type=Path, help="the inputs from a .json, .npy or .npz file"
    )
    data.add_argument(
        "stdin",
        nargs="?",
        choices=["-"],
        metavar="-",
        help="the inputs as JSON from standard input",
    )
    parser.add_argument("--signature", metavar="NAME", help="default: serving_default")
    parser.add_argument("--version", metavar="N", type=int, help="default: the latest")
    parser.add_argument("--label", metavar="LABEL", help="a version by its label")
    _add_address(parser)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        help="http://, https://, grpc:// or grpcs:// address of a server; default: HEADRACE_URL, "
        "else "
        "http://127.0.0.1:HEADRACE_HTTP_PORT, else port 8000",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=30.0, help="default: 30"
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(os.environ.get("HEADRACE_CONFIG") or "multimodel.config"),
        help="the config you edit; default: HEADRACE_CONFIG, else multimodel.config",
    )


def _add_store(parser: argparse.ArgumentParser, what: str = "the folder of models") -> None:
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        type=Path,
        default=Path(os.environ.get("HEADRACE_STORE") or "models"),
        help=f"{what}; default: HEADRACE_STORE, else models",
    )


def _serve(argv: list[str]) -> int:
    try:
        from headrace import server

        return server.main(argv)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("headrace"):
            raise
        advice = "`pip install '.[server]'` in a checkout of Headrace brings what serving needs"
        print(f"headrace: {error}; {advice}", file=sys.stderr)
        return 1


def _predict(parsed: argparse.Namespace) -> int:
    from headrace.client import plain

    if parsed.file is not None:
        inputs = plain.read_file(parsed.file)
    elif parsed.stdin:
        inputs = plain.read_json(sys.stdin.read(), source="standard input")
    else:
        inputs = plain.read_json(parsed.data, source="--data")
    with _server(parsed) as server:
        outputs = server.predict(
            parsed.model,
            inputs,
            version=parsed.version,
            label=parsed.label,
            signature=parsed.signature,
        )
    print(plain.to_json(outputs))
    return 0


def _status(parsed: argparse.Namespace) -> int:
    with _server(parsed) as server:
        versions = server.status(parsed.model)
    for v in versions:
        trouble = "" if v.error_code == "OK" else f"  {v.error_code}: {v.error_message}"
        print(f"{parsed.model}  version {v.version}  {v.state}{trouble}")
    return 0 if any(v.state == "AVAILABLE" for v in versions) else 1


def _models(parsed: argparse.Namespace) -> int:
    with _server(parsed) as server:
        models = server.models()
    for model in models:
        reason = f": {model['reason']}" if model.get("reason") else ""
        versions = ", ".join(
            str(v["version"]) for v in model.get("versions", []) if v["state"] == "AVAILABLE"
        )
        print(
            f"{model['name']}  {model.get('state', '')}{reason}"
            + (f"  version {versions}" if versions else "")
        )
        for name, signature in model.get("signatures", {}).items():
            # TensorFlow's own, for the loading of a model.
            if name.startswith("__"):
                continue
            print(f"  {name}: {_tensors(signature['inputs'])} -> {_tensors(signature['outputs'])}")
    if not models:
        how = (
            "; add one to multimodel.config and run `make reload`" if _is_the_stack(parsed) else ""
        )
        print(f"No model is configured{how}.")
    return 0


def _check_config(parsed: argparse.Namespace) -> int:
    from headrace.store import model_list

    loaded = model_list.load(parsed.file)
    found = loaded.models
    nothing = "" if found else ": once live, nothing is served"
    print(f"OK: {parsed.file} lists {len(found)} model{'s' * (len(found) != 1)}{nothing}")
    for model in found:
        print(f"  {model.name}  {model.base_path}  {_policy(model.policy)}")
    if parsed.store.is_dir():
        _warn_of_labels(loaded, parsed.store)
    return 0


def _warn_of_labels(loaded: ServingConfig, folder: Path) -> None:
    from headrace.store import folders

    for warning in folders.unserved_labels(loaded, folder):
        print(f"warning: {warning}", file=sys.stderr)


def _policy(policy: VersionPolicy) -> str:
    from headrace.protocol import version_policy

    match policy:
        case version_policy.Latest(1):
            return "latest version"
        case version_policy.Latest(count):
            return f"latest {count} versions"
        case version_policy.Specific(versions):
            return f"version{'s' * (len(versions) != 1)} {', '.join(map(str, versions))}"
        case version_policy.All():
            return "all versions"


def _render(parsed: argparse.Namespace) -> int:
    from headrace.store import folders, model_list

    rendered = folders.render_live(parsed.config, parsed.store)
    written = "written" if rendered.changed else "unchanged"
    print(
        f"{parsed.store / folders.CONFIG_NAME} {written}; served: "
        f"{', '.join(rendered.served) or 'no model yet'}"
    )
    if rendered.waiting:
        print(
            f"waiting for their first version: {', '.join(rendered.waiting)}; `python -m trainer "
            "train` makes one of a "
            "model of the zoo, `python -m trainer publish` takes a SavedModel"
        )
    if rendered.removed:
        print(f"no longer served: {', '.join(rendered.removed)}")
    _warn_of_labels(model_list.load(parsed.store / folders.CONFIG_NAME), parsed.store)
    return 0


def _doctor(parsed: argparse.Namespace) -> int:
    from headrace import doctor

    findings = doctor.examine(parsed.config, parsed.store, os.environ)
    for finding in findings:
        print(finding)
    return 1 if any(finding.is_problem for finding in findings) else 0


def _tensors(specs: dict[str, Any]) -> str:
    shown = []
    for name, spec in specs.items():
        dimensions = (
            "any shape" if spec["shape"] is None else ["?" if d < 0 else d for d in spec["shape"]]
        )
        shown.append(f"{name} {spec['dtype']} {dimensions}".replace("'", ""))
    return ", ".join(shown) or "nothing"
