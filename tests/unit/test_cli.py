"""The command line: what each command prints, its exit code, and its advice when something is
wrong."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import cli, client
from headrace.client.errors import Unreachable, WrongProtocol
from headrace.client.testing import FakeClient, FakeModel
from headrace.protocol.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)

ENTRY = 'config { name: "half" base_path: "/models/half" model_platform: "tensorflow" }'
GOOD = f"model_config_list {{ {ENTRY} }}\n"
TWO = f"model_config_list {{ {ENTRY} {ENTRY.replace('half', 'other')} }}\n"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """What every command calls instead of a server."""
    models = {
        "half": FakeModel(lambda x: x / 2 + 2, inputs={"x": "float32"}),
        "tenth": FakeModel(lambda x: x / 10, inputs={"x": "float32"}),
        "text": FakeModel(lambda s: {"s": s, "n": [len(t) for t in s]}, inputs={"s": object}),
    }
    fake = FakeClient(models)
    monkeypatch.setattr(client, "Client", lambda url, timeout_s: fake)
    return fake


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """half has a version; other has none."""
    version = tmp_path / "models" / "half" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"x")
    return tmp_path / "models"


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_help_is_quick_and_imports_no_library() -> None:
    code = (
        "import sys\n"
        "from headrace import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'google', 'grpc', 'requests'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    started = time.process_time()
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stderr) == (0, "")
    assert "headrace predict half_plus_two" in child.stdout
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "command", ["predict", "status", "models", "check-config", "render", "doctor"]
)
def test_every_verb_explains_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert f"headrace {command}" in capsys.readouterr().out.split("example", 1)[1]


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "check-config" in capsys.readouterr().out


def test_python_m_headrace_is_the_command_line() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "headrace", "nonsense"], capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 2
    assert "invalid choice: 'nonsense'" in child.stderr


def test_serve_gets_its_arguments_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace import server

    arguments: list[str] = []
    monkeypatch.setattr(server, "main", lambda argv: arguments.extend(argv) or 7)
    assert cli.main(["serve", "--port=1", "--help", "--url", "-"]) == 7
    assert arguments == ["--port=1", "--help", "--url", "-"]


def test_serve_without_its_extra_says_what_to_install() -> None:
    code = (
        # What an import of a missing package looks like.
        "import sys; sys.modules['uvicorn'] = None\n"
        "from headrace import cli; sys.exit(cli.main(['serve', '--port=auto']))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert child.returncode == 1
    assert "pip install '.[server]'` in a checkout" in child.stderr
    assert "Traceback" not in child.stderr


class TestPredict:
    def test_prints_the_answer_as_json(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["predict", "half", "--data", "[1.0, 2.0, 5.0]"]) == 0
        assert answer(capsys) == [2.5, 3.0, 4.5]

    def test_floats_have_their_own_digits(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["predict", "tenth", "--data", "[[1], [NaN]]"]) == 0
        assert capsys.readouterr().out == "[[0.1], [NaN]]\n"

    def test_bytes_come_as_text_or_b64(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["predict", "text", "--data", '{"s": ["é", {"b64": "/w=="}]}']) == 0
        assert answer(capsys) == {"s": ["é", {"b64": "/w=="}], "n": [2, 1]}

    @pytest.mark.parametrize("name", ["x.json", "x.npy", "x.npz"])
    def test_reads_files(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
    ) -> None:
        path = tmp_path / name
        {
            "x.json": lambda: path.write_text("[4]"),
            "x.npy": lambda: np.save(path, [4]),
            "x.npz": lambda: np.savez(path, x=[4]),
        }[name]()
        assert cli.main(["predict", "half", "--file", str(path)]) == 0
        assert answer(capsys) == [4.0]

    def test_reads_standard_input(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("[4]"))
        assert cli.main(["predict", "half", "-"]) == 0
        assert answer(capsys) == [4.0]

    @pytest.mark.parametrize(("flag", "value"), [("version", 1), ("label", "stable")])
    def test_version_and_label_are_passed_on(
        self, fake: FakeClient, flag: str, value: object
    ) -> None:
        assert cli.main(["predict", "half", "--data", "[1]", f"--{flag}", str(value)]) == 0
        assert getattr(fake.calls[0], flag) == value

    def test_another_signature_is_asked_for(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["predict", "half", "--data", "[1]", "--signature", "columns"]) == 1
        assert "no signature 'columns'" in capsys.readouterr().err

    def test_a_pickle_in_a_file_is_not_opened(
        self, fake: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        np.save(tmp_path / "x.npy", np.array([object()]), allow_pickle=True)
        assert cli.main(["predict", "half", "--file", str(tmp_path / "x.npy")]) == 1
        assert "allow_pickle=False" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--data", "[1"], "--data cannot be read: Expecting"),
            (["--data", '[{"b64": "?"}]'], "--data cannot be read"),
            (["--file", "/nowhere/x.npy"], "/nowhere/x.npy: No such file or directory"),
            (["--data", '["a"]'], "x: text, expected float"),
        ],
    )
    def test_bad_input_is_reported_and_ends_with_1(
        self,
        fake: FakeClient,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        assert cli.main(["predict", "half", *arguments]) == 1
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments", [[], ["--data", "[1]", "-"], ["--data", "[1]", "--file", "x"]]
    )
    def test_the_data_is_given_once(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", "half", *arguments])
        assert end.value.code == 2


START = "Not started yet? `make up` starts the stack"
LOGS = "with --timeout SECONDS, or look for the cause in the server's log: `make logs`."
MODELS = "`headrace models` lists what is served and what each model takes."
ELSEWHERE = "http://elsewhere:8000"


@pytest.mark.parametrize(
    ("error", "arguments", "advice"),
    [
        (Unreachable("cannot reach http://x"), [], START),
        (Unreachable("cannot reach http://x"), ["--url", ELSEWHERE], ""),
        (Unavailable("half is still loading"), [], ""),  # somebody answered
        (DeadlineExceeded("no answer within 30 s"), [], LOGS),
        (
            DeadlineExceeded("no answer within 30 s"),
            ["--url", ELSEWHERE],
            "with --timeout SECONDS.",
        ),
        (NotFound("no model"), [], MODELS),
        (
            NotFound("no model"),
            ["--url", ELSEWHERE],
            f"`headrace models --url {ELSEWHERE}` lists what is served",
        ),
        (InvalidArgument("x: rank 2"), [], MODELS),
        (NotFound("no model"), ["--url", "grpc://elsewhere:8001"], ""),  # which has no list
        (WrongProtocol("http://x is a gRPC port: use grpc://x"), [], ""),
        (Unimplemented("x: half cannot be sent as JSON"), [], ""),
    ],
)
def test_a_servers_error_is_shown_with_the_next_step_where_there_is_one(
    fake: FakeClient,
    capsys: pytest.CaptureFixture[str],
    error: Any,
    arguments: list[str],
    advice: str,
) -> None:
    fake.fail_with = error
    assert cli.main(["predict", "half", "--data", "[1]", *arguments]) == 1
    first, *more = capsys.readouterr().err.splitlines()
    assert first == f"headrace: {error.message}"
    assert len(more) == bool(advice)
    assert advice in "".join(more)


def test_an_unreachable_address_of_the_environment_is_named_as_such(
    fake: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_URL", ELSEWHERE)
    fake.fail_with = Unreachable(f"cannot reach {ELSEWHERE}")
    assert cli.main(["models"]) == 1
    err = capsys.readouterr().err
    assert (
        "This address comes from HEADRACE_URL; --url names another." in err and "make up" not in err
    )


@pytest.mark.parametrize(
    "arguments",
    [["--data", "[1"], ["--file", "/nowhere/x.npy"], ["--data", "[1]", "--url", "ftp://x"]],
)
def test_what_never_reached_a_server_gets_no_advice_about_one(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert cli.main(["predict", "half", *arguments]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_models_does_not_advise_itself(
    fake: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fail_with = NotFound("no such path")
    assert cli.main(["models"]) == 1
    assert capsys.readouterr().err == "headrace: no such path\n"


def test_a_real_address_without_a_server_is_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{free.getsockname()[1]}"
        assert cli.main(["status", "half", "--url", url]) == 1
    assert f"cannot reach {url}" in capsys.readouterr().err


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize(
    "command", [["status", "half"], ["models"], ["predict", "half", "--data", "[1]"]]
)
def test_the_environment_says_where_the_server_is_and_url_wins(
    closed_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    monkeypatch.setenv("HEADRACE_HTTP_PORT", str(closed_port))
    assert cli.main(command) == 1
    assert f"cannot reach http://127.0.0.1:{closed_port}: " in capsys.readouterr().err
    monkeypatch.setenv("HEADRACE_URL", f"http://localhost:{closed_port}")
    assert cli.main(command) == 1
    assert f"cannot reach http://localhost:{closed_port}: " in capsys.readouterr().err
    assert cli.main([*command, "--url", f"http://127.0.0.1:{closed_port}/mine"]) == 1
    assert f"cannot reach http://127.0.0.1:{closed_port}/mine: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "status", "models", "doctor"])
def test_help_names_the_variables_that_say_where_the_server_is(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert "HEADRACE_URL" in out and "HEADRACE_HTTP_PORT" in out


def test_status_prints_versions(fake: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "half"]) == 0
    assert capsys.readouterr().out == "half  version 1  AVAILABLE\n"


def test_status_without_an_available_version_ends_with_1(
    fake: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [client.VersionStatus(2, "END", "NOT_FOUND", "no saved_model.pb")]
    monkeypatch.setattr(fake, "status", lambda model: gone)
    assert cli.main(["status", "half"]) == 1
    assert capsys.readouterr().out == "half  version 2  END  NOT_FOUND: no saved_model.pb\n"


def test_models_prints_what_each_takes(
    fake: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = {"x": {"dtype": "float", "shape": [-1, 2]}, "s": {"dtype": "string", "shape": None}}
    gives = {"y": {"dtype": "float", "shape": [-1]}}
    listed = [
        {
            "name": "half",
            "state": "AVAILABLE",
            "reason": "",
            "versions": [{"version": 3, "state": "AVAILABLE"}, {"version": 2, "state": "END"}],
            "signatures": {"serving_default": {"inputs": takes, "outputs": gives}},
        },
        {
            "name": "other",
            "state": "END",
            "reason": "no saved_model.pb",
            "versions": [],
            "signatures": {},
        },
    ]
    monkeypatch.setattr(fake, "models", lambda: listed)
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out == (
        "half  AVAILABLE  version 3\n"
        "  serving_default: x float [?, 2], s string any shape -> y float [?]\n"
        "other  END: no saved_model.pb\n"
    )


def test_no_model_is_reported_with_the_next_step_where_that_is_known(
    fake: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "models", list)
    assert cli.main(["models"]) == 0
    assert "add one to multimodel.config and run `make reload`" in capsys.readouterr().out
    assert cli.main(["models", "--url", ELSEWHERE]) == 0
    assert capsys.readouterr().out == "No model is configured.\n"


def test_a_good_config_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "models.config"
    path.write_text(GOOD)
    assert cli.main(["check-config", str(path)]) == 0
    assert (
        capsys.readouterr().out
        == f"OK: {path} lists 1 model\n  half  /models/half  latest version\n"
    )


def test_labels_on_versions_that_are_not_served_are_warned_of(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "half" / "3").mkdir()
    labels = "".join(
        f' version_labels {{ key: "{name}" value: {version} }}'
        for name, version in (("a", 1), ("b", 2), ("c", 3))
    )
    path = tmp_path / "models.config"
    path.write_text(GOOD.replace('"tensorflow"', f'"tensorflow"{labels}'))
    assert cli.main(["check-config", str(path), "--store", str(store)]) == 0
    assert capsys.readouterr().err == (
        "warning: half: the label 'a' is on version 1, which its policy does not serve; served: 3\n"
        "warning: half: the label 'b' is on version 2, which is not there; served: 3\n"
    )
    assert cli.main(["check-config", str(path), "--store", str(tmp_path / "elsewhere")]) == 0
    assert capsys.readouterr().err == ""
    (store / "half" / "3").rmdir()
    assert cli.main(["render", "--config", str(path), "--store", str(store)]) == 0
    assert "the label 'b' is on version 2, which is not there; served: 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "place"),
    [("model_config_list {\n  confg {}\n}\n", ":2:3: "), (TWO.replace("other", "half"), ":1:")],
)
def test_a_bad_config_is_reported_with_its_position(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, place: str
) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    assert cli.main(["check-config", str(path)]) == 1
    assert f"{path}{place}" in capsys.readouterr().err


def test_a_missing_config_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-config", "/nowhere/models.config"]) == 1
    assert "/nowhere/models.config: cannot be read: No such file" in capsys.readouterr().err


def test_render_writes_the_live_config_and_says_who_waits(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "multimodel.config"
    desired.write_text(TWO)
    arguments = ["render", "--config", str(desired), "--store", str(store)]
    assert cli.main(arguments) == 0
    live = store / "multimodel.config"
    assert capsys.readouterr().out == (
        f"{live} written; served: half\nwaiting for their first version: other; `python -m "
        "trainer train` trains a model of the zoo, `python -m trainer publish` takes a SavedModel\n"
    )
    assert 'name: "half"' in live.read_text()
    assert cli.main(arguments) == 0
    assert f"{live} unchanged" in capsys.readouterr().out


def test_a_blank_config_is_refused_and_an_empty_list_names_what_it_takes_away(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "multimodel.config"
    desired.write_text(GOOD)
    render = ["render", "--config", str(desired), "--store", str(store)]
    cli.main(render)
    desired.write_text("\n")
    for arguments in (render, ["check-config", str(desired)]):
        assert cli.main(arguments) == 1
        assert f"{desired}:1:1: no model_config_list: the file is empty" in capsys.readouterr().err
    assert 'name: "half"' in (store / "multimodel.config").read_text()
    desired.write_text("model_config_list {}")
    assert cli.main(["check-config", str(desired)]) == 0
    assert (
        capsys.readouterr().out == f"OK: {desired} lists 0 models: once live, nothing is served\n"
    )
    assert cli.main(render) == 0
    assert capsys.readouterr().out.endswith("served: no model yet\nno longer served: half\n")


def test_render_leaves_the_live_config_when_the_new_one_is_broken(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "multimodel.config"
    desired.write_text(GOOD)
    arguments = ["render", "--config", str(desired), "--store", str(store)]
    cli.main(arguments)
    before = (store / "multimodel.config").read_text()
    desired.write_text(GOOD.replace("name:", "nme:"))
    assert cli.main(arguments) == 1
    assert f"{desired}:1:" in capsys.readouterr().err
    assert (store / "multimodel.config").read_text() == before
