"""Links of our texts lead to files that are there: a moved file is noticed in what speaks of it."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

import emo.__main__
import shards.__main__
from emo.config import ExperimentConfig
from shards.command_line import parse_words
from shards.config import ShardConfig
from shards.configfile import load

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(text):
    targets = [target for target in LINK.findall(text.read_text()) if "://" not in target]
    lost = [target for target in targets if not (text.parent / target).exists()]
    assert not lost


def test_the_lifecycle_names_every_file_that_a_stop_passes_through():
    text = (ROOT / "docs/lifecycle.md").read_text()
    for path in ("slurm/train.sbatch", "slurm/lib.sh", "slurm/step.sh", "launch/train.sh"):
        assert f"(../{path})" in text, path


def test_functions_that_the_lifecycle_names_are_in_the_files_that_it_names():
    """`name` in [file](../file), in one sentence."""
    text = " ".join((ROOT / "docs/lifecycle.md").read_text().split())
    named = re.findall(r"`(\w+)`(?:, `\w+`)? in \[[^\]]+\]\(\.\./([^)]+)\)", text)
    assert len(named) > 7
    lost = [(name, file) for name, file in named if name not in (ROOT / file).read_text()]
    assert not lost


def blocks(text: Path, language: str) -> list[str]:
    """The text's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text.read_text(), re.S | re.M)


def commands(text: Path) -> list[list[str]]:
    """The words of each command in a text's shell blocks; of a loop, those of its body."""
    found = []
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            inner = re.sub(r"^for .*?; do (.*); done$", r"\1", line.strip())
            words = shlex.split(inner, comments=True)
            if words:
                found.append(words[: words.index("<")] if "<" in words else words)
    return found


EVERY = [(text, words) for text in TEXTS for words in commands(text)]
SAID = [f"{text.stem}: {' '.join(words)[:70]}" for text, words in EVERY]
PROGRAMS = {
    "make": None, "source": None, "tensorboard": None, "scancel": None, "$EDITOR": None,
    "accelerate": "emo", "torchrun": "emo",
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), EVERY, ids=SAID)
def test_commands_of_the_texts_can_be_typed(text, words):
    """Programs, files and targets are there; options, settings and their values are right."""
    program, *rest = words
    if program.startswith(("launch/", "slurm/")):
        assert (ROOT / program).is_file()
        if program == "launch/train.sh":
            check(["emo", "train", *rest[1:]])
    elif program == "make":
        targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert set(rest) <= targets
    elif program in ("emo", "emo-shards"):
        check(words)
    elif PROGRAMS[program] == "emo":
        check(["emo", *rest[rest.index("emo") + 1 :]])


def check(words: list[str]) -> None:
    program, *rest = words
    rest = [word.replace("$lr", "1e-3") for word in rest]
    if program == "emo-shards":
        args = parse_words(shards.__main__._parser(), rest, shards.__main__._setting_keys)
        if rest[0] == "build":
            load(ShardConfig, ROOT / args.config, args.settings)
        return
    args = parse_words(emo.__main__.parser(), rest, emo.__main__.setting_keys)
    if hasattr(args, "overrides"):
        own = [word for word in args.overrides if not word.startswith("fold=")]
        load(ExperimentConfig, ROOT / args.config, own)
    if rest[0] == "fields":
        assert emo.__main__.main(rest) == 0


PYTHON = [(text, code) for text in TEXTS for code in blocks(text, "python")]


@pytest.mark.parametrize(("text", "code"), PYTHON, ids=lambda one: getattr(one, "stem", ""))
def test_python_of_the_texts_imports_what_is_there(text, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
