"""Strict configurations: every problem at once, with its path and a suggestion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from shards.configfile import Config, ConfigError, apply_overrides, digest, dump, load


class Inner(Config):
    rate: float = Field(1.0, gt=0)
    names: tuple[str, ...] = ()


class Outer(Config):
    title: str
    inner: Inner = Inner()
    parts: dict[str, Inner] = Field(default_factory=dict)


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_reads_yaml_with_overrides(tmp_path):
    path = write(tmp_path, "title: a\ninner: {rate: 2}\n")
    config = load(Outer, path, ["inner.rate=0.5", "inner.names=[x, y]", "parts.p.rate=3"])
    assert config == Outer(
        title="a", inner=Inner(rate=0.5, names=("x", "y")), parts={"p": Inner(rate=3)}
    )


def test_every_problem_is_reported_at_once_with_a_suggestion(tmp_path):
    path = write(tmp_path, "inner: {rat: 2, rate: -1}\ntitel: x\n")
    with pytest.raises(ConfigError) as caught:
        load(Outer, path)
    message = str(caught.value)
    assert "4 problems" in message
    assert str(path) in message
    assert "titel: unknown key; did you mean 'title'?" in message
    assert "inner.rat: unknown key; did you mean 'rate'?" in message
    assert "title: required" in message
    assert "inner.rate: " in message
    assert "(got -1)" in message


def test_an_unknown_key_without_a_near_one_lists_those_that_are_known(tmp_path):
    with pytest.raises(ConfigError, match="known keys: names, rate"):
        load(Outer, write(tmp_path, "title: a\nparts: {p: {zzz: 1}}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("- 1\n", "must hold a mapping"), ("a: [\n", "not valid YAML"), ("{}", "title: required")],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(Outer, write(tmp_path, text))


def test_missing_file_and_bad_overrides(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load(Outer, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="write it as key=value"):
        load(Outer, write(tmp_path, "title: a\n"), ["nonsense", "=3"])


def test_infinite_numbers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="finite"):
        load(Outer, write(tmp_path, "title: a\ninner: {rate: .nan}\n"))


def test_python_objects_in_yaml_are_refused(tmp_path):
    path = write(tmp_path, "title: !!python/object/apply:os.system [id]\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(Outer, path)


def test_dump_reads_back_equal(tmp_path):
    config = Outer(title="ä: #", inner=Inner(rate=1e-8, names=("1", "no")))
    assert load(Outer, write(tmp_path, dump(config))) == config


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), plain))
def test_digest_ignores_the_order_of_keys_and_nothing_else(value):
    assert digest(dict(reversed(value.items()))) == digest(value)
    assert digest(value | {"one more": 1}) != digest(value)


def test_overrides_leave_their_source_alone():
    raw = {"a": {"b": 1}}
    assert apply_overrides(raw, ["a.b=2", "c=hi"]) == {"a": {"b": 2}, "c": "hi"}
    assert raw == {"a": {"b": 1}}
