"""multimodel.config: every *.good file is read, every *.bad one has one fault and says where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.protocol import messages
from headrace.protocol.errors import ConfigError, InvalidArgument
from headrace.protocol.version_policy import All, Latest, Specific
from headrace.store import model_list
from headrace.store.model_list import ModelConfig, ServingConfig
from tests.unit import official

FIXTURES = Path(__file__).parent / "fixtures" / "config"
ROOT = Path(__file__).resolve().parents[2]

A = ModelConfig("a", "/models/a")
SAMPLED = messages.parse_text(
    messages.ModelConfig, "logging_config { sampling_config { sampling_rate: 0.5 } }"
)
GOOD = {
    "all_fields": (
        ModelConfig("plain", "/models/plain"),
        ModelConfig(
            "pinned",
            "gs://bucket/pinned",
            policy=Specific((1, 3, -4)),
            labels={"stable": 1, "canary": 3},
        ),
        ModelConfig(
            "every",
            "/models/every",
            policy=All(),
            logging=SAMPLED.logging_config.SerializeToString(),
        ),
        ModelConfig("two", "/models/two", policy=Latest(2), labels={"next": 9}),
    ),
    "no_models": (),
    "same_base_path": (ModelConfig("a", "/models/shared"), ModelConfig("b", "/models/shared")),
    "windows_lines": (A,),
    "zero_latest": (A,),
}
BAD = [
    (
        "both_type_and_platform",
        6,
        5,
        "model 'a' has both model_platform and the deprecated model_type",
    ),
    ("custom", 2, 1, "custom_model_config cannot be served, list models in model_config_list"),
    ("empty", 1, 1, "no model_config_list: the file is empty or was cut off"),
    ("empty_base_path", 4, 5, "model 'a' has no base_path"),
    ("empty_name", 3, 5, "a model has no name"),
    ("json", 1, 1, "Expected identifier or number"),
    ("label_empty", 6, 5, "model 'a' has an empty label"),
    (
        "label_off_policy",
        8,
        5,
        "model 'a' has the label 'stable' on version 2, which its policy does not serve",
    ),
    ("label_twice", 7, 5, "model 'a' has the label 'stable' twice"),
    ("latin1", 2, 22, "not UTF-8 text"),
    ("list_twice", 2, 19, 'should not have multiple "model_config_list" fields'),
    ("name_twice", 4, 12, "model 'a' is listed twice, first at line 2"),
    ("no_base_path", 2, 3, "model 'a' has no base_path"),
    ("no_name", 2, 3, "a model has no name"),
    ("no_platform", 2, 3, "model 'a' has no model_platform, expected 'tensorflow'"),
    ("open_string", 3, 11, "String missing ending quote"),
    ("other_type", 4, 5, "model 'a' has the platform 'OTHER', expected 'tensorflow'"),
    ("out_of_range", 6, 49, "Value out of range: 9223372036854775808"),
    (
        "relative_base_path",
        4,
        5,
        "base_path of model 'a' is 'models/a', expected an absolute path or a URI",
    ),
    ("repeated_field", 6, 16, 'should not have multiple "base_path" fields'),
    ("two_policies", 8, 7, 'Field "latest" is specified along with field "all"'),
    ("unbalanced", 8, 3, "Expected identifier or number, got }"),
    ("unclosed", 3, 11, 'Expected "}"'),
    ("unknown_any", 4, 67, "no.Such"),
    ("unknown_field", 6, 5, 'has no field named "base_pth"'),
    ("unknown_platform", 4, 5, "model 'a' has the platform 'pytorch', expected 'tensorflow'"),
    ("wrong_type", 6, 51, "Couldn't parse integer"),
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_read(name: str) -> None:
    assert model_list.load(FIXTURES / f"{name}.good") == ServingConfig(GOOD[name])


@pytest.mark.parametrize("name", GOOD)
def test_the_official_classes_read_what_we_render(name: str) -> None:
    ours = ServingConfig(GOOD[name])
    theirs = text_format.Parse(
        model_list.render(ours),
        official.message("tensorflow.serving.ModelServerConfig")(),
        descriptor_pool=official.pool(),
    )
    assert model_list.from_message(theirs) == ours
    assert theirs.WhichOneof("config") == "model_config_list"


@pytest.mark.parametrize(("name", "line", "column", "reason"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_file_says_what_and_where(name: str, line: int, column: int, reason: str) -> None:
    path = FIXTURES / f"{name}.bad"
    with pytest.raises(ConfigError) as caught:
        model_list.load(path)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.reason
    assert str(caught.value) == f"{path}:{line}:{column}: {caught.value.reason}"


@pytest.mark.parametrize(
    "text", ["", "\n \n", "# about to be written\n"], ids=["empty", "blank", "comment"]
)
def test_a_file_without_a_list_is_refused_unless_it_may_be_blank(tmp_path: Path, text: str) -> None:
    path = tmp_path / "multimodel.config"
    path.write_text(text)
    with pytest.raises(
        ConfigError,
        match=r"multimodel\.config:1:1: no model_config_list: .* `model_config_list {}`",
    ):
        model_list.load(path)
    assert model_list.load(path, may_be_blank=True) == ServingConfig()


def test_every_fixture_is_in_a_table() -> None:
    assert {path.stem for path in FIXTURES.glob("*.good")} == set(GOOD)
    assert {path.stem for path in FIXTURES.glob("*.bad")} == {row[0] for row in BAD}
    assert len(list(FIXTURES.iterdir())) == len(GOOD) + len(BAD)


@pytest.mark.parametrize("name", [row[0] for row in BAD if row[0] not in ("json", "latin1")])
def test_a_bad_file_has_one_fault(name: str) -> None:
    """With the one thing mended the file would do, so the fault is the named one."""
    text = (FIXTURES / f"{name}.bad").read_text()
    repairs = {
        "empty": ("", "model_config_list {}"),
        "custom": ('custom_model_config { type_url: "x/y" }', "model_config_list {}"),
        "empty_base_path": ('base_path: ""', 'base_path: "/models/a"'),
        "empty_name": ('name: ""', 'name: "a"'),
        "label_off_policy": ("value: 2", "value: 1"),
        "label_twice": ('"ble"', '"bler"'),
        "label_empty": ("{ value: 1 }", '{ key: "k" value: 1 }'),
        "list_twice": ("model_config_list {}\n", ""),
        "name_twice": (
            '  config { name: "a" base_path: "/models/c"',
            '  config { name: "c" base_path: "/models/c"',
        ),
        "no_base_path": ('name: "a"', 'name: "a" base_path: "/models/a"'),
        "no_name": ("config {", 'config { name: "a"'),
        "no_platform": ('name: "a"', 'name: "a" model_platform: "tensorflow"'),
        "open_string": ('"a\n', '"a" base_path: "/a" model_platform: "tensorflow"\n'),
        "other_type": ("OTHER", "TENSORFLOW"),
        "out_of_range": ("9223372036854775808", "9223372036854775807"),
        "relative_base_path": ('"models/a"', '"/models/a"'),
        "two_policies": ("      latest {}\n", ""),
        "unbalanced": ("  }\n}\n  }\n}\n", "  }\n}\n"),
        "unclosed": ('"a"\n', '"a" base_path: "/a" model_platform: "tensorflow" } }\n'),
        "unknown_any": ("no.Such", "tensorflow.Example"),
        "unknown_platform": ("pytorch", "tensorflow"),
        "wrong_type": ('"two"', "2"),
    }
    if name in repairs:
        old, new = repairs[name]
        assert old in text
        mended = text.replace(old, new, 1)
    else:
        line = next(row[1] for row in BAD if row[0] == name)
        lines = text.splitlines()
        mended = "\n".join(lines[: line - 1] + lines[line:])
    model_list.parse(mended)


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.config: cannot be read: No such file"):
        model_list.load(tmp_path / "missing.config")


def test_the_project_s_own_config_is_good() -> None:
    models = model_list.load(ROOT / "multimodel.config").models
    assert all(model.base_path == f"/models/{model.name}" for model in models)


def test_a_message_without_text_is_checked_without_places() -> None:
    message = messages.ModelServerConfig()
    message.model_config_list.config.add(
        name="a", base_path="/a", model_platform="tensorflow"
    ).model_version_policy.specific.versions.append(1)
    message.model_config_list.config[0].version_labels["stable"] = 2
    with pytest.raises(
        ConfigError, match=r"^model 'a' has the label 'stable' on version 2"
    ) as caught:
        model_list.from_message(message)
    assert (caught.value.line, caught.value.column) == (0, 0)


def test_a_model_is_found_by_name() -> None:
    serving = ServingConfig((A, ModelConfig("b", "/b")))
    assert serving.model("b") == ModelConfig("b", "/b")
    assert serving.model("c") is None


def test_a_config_error_is_a_bad_argument() -> None:
    with pytest.raises(InvalidArgument):
        model_list.parse("nonsense")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VERSIONS = st.integers(-(2**63), 2**63 - 1)


@st.composite
def models(draw: Any, name: str) -> ModelConfig:
    policy = draw(
        st.builds(Latest, st.integers(1, 2**32 - 1))
        | st.just(All())
        | st.builds(Specific, st.lists(VERSIONS, max_size=4).map(tuple))
    )
    labelled = (
        st.sampled_from(policy.versions)
        if isinstance(policy, Specific) and policy.versions
        else VERSIONS
    )
    no_labels = isinstance(policy, Specific) and not policy.versions
    return ModelConfig(
        name,
        draw(st.sampled_from(["/", "gs://", "s3+x://"])) + draw(NAMES),
        policy=policy,
        labels={} if no_labels else draw(st.dictionaries(NAMES, labelled, max_size=3)),
    )


@st.composite
def configs(draw: Any) -> ServingConfig:
    names = draw(st.lists(NAMES, unique=True, max_size=4))
    return ServingConfig(tuple(draw(models(name)) for name in names))


@settings(max_examples=150, deadline=None)
@given(configs())
def test_any_config_survives_its_text(serving: ServingConfig) -> None:
    assert model_list.parse(model_list.render(serving)) == serving


GOOD_TEXT = (FIXTURES / "all_fields.good").read_text()
PIECES = [
    "{",
    "}",
    "<",
    ">",
    "[",
    "]",
    ":",
    ",",
    ";",
    '"',
    "'",
    "#",
    "\\",
    "-",
    "\n",
    "\x00",
    "é",
    "config",
    "0x",
    "1e9",
]


@settings(max_examples=300, deadline=None)
# An escape that Python's own codec frowns at (\e): protobuf takes it as it stands.
@pytest.mark.filterwarnings("ignore:.*invalid escape sequence:DeprecationWarning")
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD_TEXT)),
            st.integers(0, 30),
            st.sampled_from(PIECES) | st.just(""),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_damaged_text_is_read_as_protobuf_reads_it_or_refused_with_a_place(
    edits: list[tuple[int, int, str]],
) -> None:
    text = GOOD_TEXT
    for at, cut, piece in edits:
        text = text[:at] + piece + text[at + cut :]
    try:
        serving = model_list.parse(text)
    except ConfigError as error:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines) and 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        theirs = official.message("tensorflow.serving.ModelServerConfig")()
        text_format.Parse(text, theirs, descriptor_pool=official.pool())
        assert [model.name for model in serving.models] == [
            c.name for c in theirs.model_config_list.config
        ]
