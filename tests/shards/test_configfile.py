"""Strict configurations: every problem at once, with its path and a suggestion."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from shards.configfile import (
    Config,
    ConfigError,
    apply_overrides,
    differences,
    digest,
    dump,
    load,
    parse,
)
from shards.errors import suggestion


class Inner(Config):
    rate: float = Field(1.0, gt=0)
    names: tuple[str, ...] = ()


class Outer(Config):
    title: str
    inner: Inner = Inner()
    parts: dict[str, Inner] = Field(default_factory=dict)


class Square(Config):
    kind: Literal["square"]
    side: float = 1.0


class Circle(Config):
    kind: Literal["circle"]
    radius: float = 1.0


class Drawing(Config):
    shape: Annotated[Square | Circle, Field(discriminator="kind")] = Square(kind="square")
    colours: tuple[Literal["red", "green"], ...] = Field((), min_length=1)
    sizes: dict[Literal["small", "large"], int] = Field(default_factory=dict)
    inner: Inner = Inner()
    more: Inner = Inner()


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


class Named(Config):
    fold: str | None = None
    folder: Path = Path("out")
    runs: dict[str, Path] = Field(default_factory=dict)
    size: int | str = 1
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("fold=03", "03"),
        ("fold=1", "1"),
        ("fold=on", "on"),
        ("fold=2024-01-02", "2024-01-02"),
        ("fold=1e3", "1e3"),
        ("fold='03'", "03"),
        ("fold=null", None),
        ("folder=007", Path("007")),
        ("runs.text=2024", {"text": Path("2024")}),
        ("size=03", 3),
    ],
)
def test_a_text_in_an_override_stays_as_it_was_written(tmp_path, override, value):
    config = load(Named, write(tmp_path, ""), [override])
    assert getattr(config, override.split("=")[0].split(".")[0]) == value


def test_a_text_in_a_file_stays_as_it_was_written(tmp_path):
    config = load(Named, write(tmp_path, "fold: 03\nsize: 03\nruns: {01: 007, on: 1e3}\n"))
    assert (config.fold, config.size) == ("03", 3)
    assert config.runs == {"01": Path("007"), "on": Path("1e3")}


def test_a_number_that_a_program_gives_for_a_text_is_told():
    with pytest.raises(ConfigError, match=r"fold: must be text, .* 3 for a number: put it in quot"):
        parse(Named, {"fold": 3}, "the test")


def test_a_home_folder_is_found_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    written = 'fold: "~/x"\nfolder: ~/a\nruns: {text: ~/b}\n'
    config = load(Named, write(tmp_path, written))
    assert config.folder == Path("/home/anna/a")
    assert config.runs == {"text": Path("/home/anna/b")}
    assert config.fold == "~/x"  # a text is no path
    assert load(Named, write(tmp_path, ""), ["folder=~/c"]).folder == Path("/home/anna/c")
    assert load(Named, write(tmp_path, "folder: a~/b")).folder == Path("a~/b")
    with pytest.raises(ConfigError, match="folder: nobody here has the home folder ~no-such-user"):
        load(Named, write(tmp_path, "folder: ~no-such-user/x\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\ntitle: b\n", "the key 'title' stands twice"),
        ("? [a, b]\n: c\n", "a key is a list or a mapping"),
        ("inner: {rate: 2020-99-99}\n", "month must be in 1..12"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: &a {b: *a}\n", "nested too deeply"),
        ("a: &a [1, 2]\n" + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ), "more than 100000 values"),
    ],
)  # fmt: skip
def test_yaml_that_would_end_in_a_traceback_or_in_no_memory(tmp_path, text, message):
    with pytest.raises(ConfigError, match=f"not valid YAML: .*{message}"):
        load(Outer, write(tmp_path, text))


def test_a_date_where_a_number_should_be_is_no_traceback(tmp_path):
    with pytest.raises(ConfigError, match=r"inner\.rate: .*number"):
        load(Outer, write(tmp_path, "title: a\ninner: {rate: 2020-01-01}\n"))


def test_every_problem_is_reported_at_once_with_a_suggestion(tmp_path):
    path = write(tmp_path, "inner: {rat: 2, rate: -1}\ntitel: x\n")
    with pytest.raises(ConfigError) as caught:
        load(Outer, path)
    message = str(caught.value)
    assert "4 problems" in message
    assert str(path) in message
    assert "titel: unknown key: did you mean 'title'?" in message
    assert "inner.rat: unknown key: did you mean 'rate'?" in message
    assert "title: required" in message
    assert "inner.rate: " in message
    assert "(got -1)" in message


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({"colours": ["rde"]},
         "colours.0: must be 'red' or 'green', not 'rde': did you mean 'red'?"),
        ({"colours": ["RED"]},
         "colours.0: must be 'red' or 'green', not 'RED': did you mean 'red'?"),
        ({"colours": ["blue"]}, "colours.0: must be 'red' or 'green', not 'blue'"),
        ({"colours": [3]}, "colours.0: must be 'red' or 'green', not 3"),
        ({"sizes": {"smal": 1}},
         "sizes.smal: must be 'small' or 'large', not 'smal': did you mean 'small'?"),
        ({"shape": {"kind": "cirle"}},
         "shape.kind: must be 'square' or 'circle', not 'cirle': did you mean 'circle'?"),
        ({"shape": {"side": 2}}, "shape.kind: required, but not set; must be 'square' or 'circle'"),
        ({"shape": {"kind": "circle", "radios": 2}},
         "shape.radios: unknown key: did you mean 'radius'?"),
        ({"shape": {"kind": "circle", "side": 2}},
         "shape.side: unknown key; known keys: kind, radius"),
        ({"radius": 2}, "radius: unknown key here: did you mean shape.radius?"),
        ({"rate": 2}, "rate: unknown key here: did you mean inner.rate or more.rate?"),
        ({"shape": {"kind": "circle", "radius": "x"}},
         "shape.radius: Input should be a valid number"),
        ({"inner": 3}, "inner: must hold a mapping of keys to values (got 3)"),
    ],
)  # fmt: skip
def test_what_is_misspelt_is_named_with_its_path_and_what_is_meant(raw, line):
    with pytest.raises(ConfigError) as caught:
        parse(Drawing, raw, "a test")
    first, second = str(caught.value).splitlines()
    assert first == "1 problem in a test:"
    assert second.strip().startswith(line)
    assert ("did you mean" in second) == ("did you mean" in line)


def test_a_mistake_in_an_override_is_not_looked_for_in_the_file(tmp_path):
    path = write(tmp_path, "titel: x\ninner: {names: [a]}\n")
    with pytest.raises(ConfigError) as caught:
        load(Outer, path, ["inner.rate=-1", "innr.rate=2", "title.x=3"])
    assert [line.split(" (")[0] for line in str(caught.value).splitlines()] == [
        f"1 problem in {path}:",
        "  titel: unknown key: did you mean 'title'?",
        "3 problems in the overrides:",
        "  title: Input should be a valid string",
        "  inner.rate: Input should be greater than 0",
        "  innr: unknown key: did you mean 'inner'?",
    ]
    with pytest.raises(ConfigError, match=r"1 problem in the overrides:\n  inner\.rate:"):
        load(Outer, write(tmp_path, "title: a\n"), ["inner.rate=-1"])


def test_values_that_do_not_go_together_are_the_matter_of_both(tmp_path):
    class Range(Config):
        least: int = 0
        most: int = 9

        @model_validator(mode="after")
        def _in_order(self):
            if self.least > self.most:
                raise ValueError("least is above most")
            return self

    path = write(tmp_path, "least: 3\n")
    with pytest.raises(ConfigError, match=f"1 problem in {path} with the overrides:"):
        load(Range, path, ["most=2"])


def test_a_suggestion_is_near_or_nothing():
    assert suggestion("macro_f", ["ua", "wa", "macro_f1"]) == ": did you mean 'macro_f1'?"
    assert suggestion("zzz", ["ua", "wa"]) == ""
    assert suggestion("x", []) == ""


def test_differences_name_every_setting_that_changed():
    old = {"a": 1, "b": {"c": [1], "d": {}}, "gone": {"x": {"y": 2}}, "same": {"z": 1}}
    new = {"a": 2, "b": {"c": [2], "d": {"e": "f"}}, "new": None, "same": {"z": 1}}
    assert differences(old, new) == [
        "a: was 1, now 2",
        "b.c: was [1], now [2]",
        "b.d.e: was not set, now 'f'",
        "gone.x.y: was 2, now not set",
        "new: was not set, now None",
    ]
    assert differences(old, new, ignored={"a", "b", "gone.x", "new"}) == []
    assert differences({}, {"a": {}}) == ["a: was not set, now {}"]
    assert differences(old, old) == []


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


@pytest.mark.parametrize("word", ["010", "1:30", "1_0", "0x10", "190:20:30.15"])
def test_a_number_that_yaml_reads_in_its_own_way_is_refused(word, tmp_path):
    """010 would be 8, 1:30 would be 90. A text stays what was written."""

    class Numbers(Config):
        size: float
        name: str = "x"

    with pytest.raises(ConfigError, match=f"{word} is another number in YAML than it seems"):
        load(Numbers, written(tmp_path, f"size: {word}"))
    with pytest.raises(ConfigError, match=r"'size=.*': .* is another number"):
        load(Numbers, written(tmp_path, "size: 1"), [f"size={word}"])
    found = load(Numbers, written(tmp_path, f"{{size: 03, name: {word}}}"))
    assert (found.size, found.name) == (3, word)


@pytest.mark.parametrize("word", ["true", "no", "off"])
def test_a_truth_value_is_no_number(word, tmp_path):
    class Numbers(Config):
        size: int = 1
        flag: bool = False

    with pytest.raises(ConfigError, match=r"size must be a number, not (true|false)"):
        load(Numbers, written(tmp_path, f"size: {word}"))
    assert load(Numbers, written(tmp_path, f"flag: {word}")).size == 1


def written(folder, text):
    (folder / "c.yaml").write_text(text)
    return folder / "c.yaml"
