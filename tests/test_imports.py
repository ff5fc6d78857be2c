"""Imports run one way: shards knows nothing of training, and the command lines start at once."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN_IN_SHARDS = {"emo", "accelerate", "deepspeed"}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_shards_never_imports_training():
    files = sorted((ROOT / "shards").rglob("*.py"))
    assert len(files) > 10
    wrong = {str(f): found for f in files if (found := imported(f) & FORBIDDEN_IN_SHARDS)}
    assert not wrong


def test_nothing_reads_the_rank_but_one_module():
    wrong = []
    for path in sorted((ROOT / "emo").rglob("*.py")):
        if path.name == "launcher.py":
            continue
        if {'"RANK"', '"WORLD_SIZE"', '"LOCAL_RANK"'} & set(path.read_text().split("'")):
            wrong.append(str(path))
        for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            if f'"{variable}"' in path.read_text():
                wrong.append(f"{path}: {variable}")
    assert not wrong


@pytest.mark.parametrize("package", ["emo", "shards"])
def test_help_needs_no_heavy_import_and_answers_at_once(package):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['{package}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{package}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'librosa', 'sklearn', 'pyarrow', 'accelerate'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    print(f"{package} --help: {time.monotonic() - started:.2f} s")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
