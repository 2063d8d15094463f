"""Settings of any part: a dataclass whose fields variables set."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import trainer.settings
from headrace import settings, variables
from headrace.protocol.errors import InvalidArgument
from headrace.settings import Check, Row, setting


@dataclass(frozen=True, kw_only=True)
class Part:
    http_port: int = setting(80, "Its port.", Check(lambda port: port < 100, "less than 100"))
    timeout_s: float = setting(1.5, "Its patience.")
    metrics: bool = setting(True, "Whether it counts.")
    upstream_rest: tuple[str, ...] = setting(
        ("a", "b"), "Where it asks.", Check(str.isalpha, "letters")
    )
    workers: int = setting(1, "How many.", words={"auto": "0"})
    port_file: str = setting("", "Where it writes.")

    def __post_init__(self) -> None:
        settings.check(self)


def read(**values: str) -> Part:
    environ = {variables.PREFIX + name: value for name, value in values.items()}
    return settings.from_environment(Part, environ)


def test_without_variables_the_defaults_hold() -> None:
    assert read() == Part()


def test_a_variable_sets_its_field_by_the_fields_type() -> None:
    part = read(
        HTTP_PORT="8",
        TIMEOUT_S="2",
        METRICS="Off",
        UPSTREAM_REST="x, y,",
        WORKERS="AUTO",
        PORT_FILE="/p",
    )
    assert part == Part(
        http_port=8,
        timeout_s=2.0,
        metrics=False,
        upstream_rest=("x", "y"),
        workers=0,
        port_file="/p",
    )


def test_names_of_other_parts_are_ignored() -> None:
    assert read(STORE="models") == Part()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("HTTP_PORT", "x", "HEADRACE_HTTP_PORT='x': expected a whole number"),
        ("HTTP_PORT", "100", "HEADRACE_HTTP_PORT=100: expected less than 100"),
        ("TIMEOUT_S", "x", "HEADRACE_TIMEOUT_S='x': expected a number"),
        ("TIMEOUT_S", "inf", "HEADRACE_TIMEOUT_S='inf': expected a number"),
        ("METRICS", "2", "HEADRACE_METRICS='2': expected 1 or 0"),
        ("UPSTREAM_REST", "a,1", "HEADRACE_UPSTREAM_REST=1: expected letters"),
        ("WORKER", "1", "HEADRACE_WORKER is not a setting; did you mean HEADRACE_WORKERS?"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(name: str, value: str, error: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        read(**{name: value})
    assert refusal.value.message == error


def test_the_table_shows_each_field_as_a_person_writes_it() -> None:
    rows = settings.table(Part)
    assert rows[0] == Row("HEADRACE_HTTP_PORT", "port", "80", "Its port.")
    assert [(row.unit, row.default) for row in rows[1:]] == [
        ("seconds", "1.5"),
        ("1 or 0", "1"),
        ("list", "a,b"),
        ("processes", "1"),
        ("text", '""'),
    ]


@pytest.mark.parametrize(
    ("environ", "gateway"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"HEADRACE_HTTP_PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"HEADRACE_HTTP_PORT": "9000", "HEADRACE_GATEWAY": "http://gw:1/"}, "http://gw:1"),
        ({"HEADRACE_HTTP_PORT": "", "HEADRACE_GATEWAY": ""}, "http://127.0.0.1:8000"),
    ],
    ids=["default", "port", "gateway", "empty"],
)
def test_the_trainer_asks_the_gateway_of_this_machine_unless_told_another(
    environ: dict[str, str], gateway: str
) -> None:
    assert trainer.settings.from_environment(environ).gateway == gateway
