"""Links of our texts lead to files that are there: a moved file is noticed in what speaks of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
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
