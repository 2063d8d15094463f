"""The parts of the local runtime that need no stack: settings, comparing answers, what a reload waits for."""

from __future__ import annotations

import json
import os
import pwd
import re
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.alone import alone
from deploy.local import reload, settings
from deploy.local.reload import compare
from deploy.local.stack import is_settled
from deploy.local.supervised import configuration
from deploy.smoke import close
from deploy.terminal import Stop
from headrace.wire import config
from headrace.wire.store import unserved_labels


def test_empty_variables_count_as_unset():
    assert settings.from_environment({"HEADRACE_HTTP_PORT": "", "HEADRACE_STORE": ""}) == settings.Settings()


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "nan", "8000.5x"])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(Stop, match=f"HEADRACE_GRPC_PORT={text}"):
        settings.from_environment({"HEADRACE_GRPC_PORT": text})


def test_one_port_for_two_doors_is_refused():
    with pytest.raises(Stop, match="HEADRACE_HTTP_PORT and HEADRACE_GRPC_PORT are both 9000"):
        settings.from_environment({"HEADRACE_HTTP_PORT": "9000", "HEADRACE_GRPC_PORT": "9000"})


def test_the_gateway_gets_its_settings_and_not_the_runtimes():
    others = {"HEADRACE_URL": "http://x", "HEADRACE_GATEWAY": "http://y", "MAKEFLAGS": "w"}
    given = {"HEADRACE_STORE": "/s", "HEADRACE_TIMEOUT_S": "7", "PATH": "/bin", **others}
    passed = settings.from_environment(given).service_environment(given)
    assert passed["HEADRACE_TIMEOUT_S"] == "7"
    assert passed["HEADRACE_MODEL_CONFIG_FILE"] == "/s/multimodel.config"
    assert passed["PATH"] == "/bin"
    assert not {"HEADRACE_STORE", *others} & passed.keys()


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
    with pytest.raises(Stop, match=f"^{whose}$"), alone(others_folder / "lock", otherwise="Name another."):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="everybody may write into a folder of their own")
def test_a_folder_of_another_user_says_whose_it_is(others_folder):
    with pytest.raises(Stop, match=f"{others_folder} belongs to root"), alone(others_folder / "run" / "lock"):
        pass


@pytest.mark.parametrize(
    ("reason", "settled"),
    [("no model is configured", True), ("no model is AVAILABLE", True), ("still loading: m", False)],
)
def test_more_time_is_advised_where_it_helps(reason, settled):
    assert is_settled(reason) is settled


def test_supervisor_reads_paths_with_blanks_and_signs_of_percent(tmp_path):
    from supervisor.options import ServerOptions

    odd = tmp_path / "100% my; store"
    here = settings.from_environment({"HEADRACE_STORE": str(odd), "HEADRACE_RUN": str(tmp_path / "a run%d")})
    here.logs.mkdir(parents=True)
    conf = tmp_path / "supervisord.conf"
    conf.write_text(configuration(here, here.run / "sock", here.run / "pid"))
    options = ServerOptions()
    options.realize(["-c", str(conf)], doc="")
    (serving,) = (g.process_configs[0] for g in options.process_group_configs if g.name == "serving")
    assert f"'--models_root={odd}'" in serving.command
    assert serving.stdout_logfile == str(here.logs / "serving.log")


@pytest.mark.parametrize(
    ("wanted", "got", "alike"),
    [
        ([2.5, 3.0], [2.5, 3], True),
        ([2.5], [2.5004], True),
        ([2.5], [2.6], False),
        ([2.5], [2.5, 2.5], False),
        ({"a": [1.0]}, {"a": [1.0]}, True),
        ({"a": [1.0]}, {"b": [1.0]}, False),
        ([1.0], ["NaN"], False),
        (["x"], ["x"], True),
    ],
)
def test_smoke_compares_answers_but_for_the_last_digits(wanted, got, alike):
    assert close(wanted, got) is alike


@pytest.fixture
def store(tmp_path):
    for version in ("1", "2"):
        (tmp_path / "m" / version).mkdir(parents=True)
        (tmp_path / "m" / version / "saved_model.pb").write_bytes(b"x")
    return tmp_path


def listed(policy=None, labels=None):
    model = config.ModelConfig("m", "/models/m", policy=policy or config.Latest(1), labels=labels or {})
    return config.ServingConfig((model,))


def told(*versions, labels=None, **reasons):
    rows = [{"version": v, "state": "AVAILABLE", "reason": ""} for v in versions]
    return {"m": {"versions": rows, "labels": labels or {}}}


@pytest.mark.parametrize(
    ("policy", "labels", "warned"),
    [
        (config.Latest(1), {"new": 2}, []),
        (config.Latest(2), {"new": 2, "old": 1}, []),
        (config.All(), {"new": 2, "old": 1}, []),
        (
            config.Latest(1),
            {"old": 1},
            ["m: the label 'old' is on version 1, which its policy does not serve; served: 2"],
        ),
        (config.All(), {"x": 7}, ["m: the label 'x' is on version 7, which is not there; served: 1, 2"]),
    ],
)
def test_labels_on_versions_that_are_not_served_are_told(store, policy, labels, warned):
    assert unserved_labels(listed(policy, labels), store) == warned


def test_reload_warns_of_labels_on_versions_that_are_not_served(store, capsys):
    desired = store / "desired.config"
    desired.write_text(config.render(listed(config.Latest(1), {"old": 1})))

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self):
            row = {"name": "m", "labels": {"old": 1}, "versions": [{"version": 2, "state": "AVAILABLE", "reason": ""}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"models": [row]}).encode())

        def log_message(self, *args): ...

    with HTTPServer(("127.0.0.1", 0), Gateway) as gateway:
        threading.Thread(target=gateway.handle_request, daemon=True).start()
        assert reload.main(f"http://127.0.0.1:{gateway.server_port}", str(desired), str(store)) == 0
    warning = "m: the label 'old' is on version 1, which its policy does not serve; served: 2"
    assert f" warn {warning}\n" in capsys.readouterr().out


def test_reload_is_done_when_the_gateway_says_what_the_list_says(store):
    assert compare(listed(), store, told(2)) == []
    assert compare(listed(config.All()), store, told(1, 2)) == []
    assert compare(listed(config.Specific((1,)), {"stable": 1}), store, told(1, labels={"stable": 1})) == []


@pytest.mark.parametrize(
    ("wanted", "served", "difference"),
    [
        (listed(), told(1), "m version 2 is not served yet"),
        (listed(), told(1, 2), "m version 1 is still served"),
        (listed(config.Specific((1,)), {"stable": 1}), told(1), "m does not have its labels yet"),
        (listed(), {}, "m version 2 is not served yet"),
        (config.ServingConfig(()), told(2), "m is still served"),
        (
            listed(),
            {"m": {"versions": [{"version": 2, "state": "END", "reason": "no graph"}], "labels": {}}},
            "m version 2 failed to load: no graph",
        ),
    ],
)
def test_reload_says_what_it_waits_for(store, wanted, served, difference):
    assert difference in compare(wanted, store, served)
