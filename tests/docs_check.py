"""Runs every command of a page, one after the other, in a new clone: `make docs-check`.

python tests/docs_check.py docs/tutorial.md [--here PYTHON_FOLDER]

Prints each command, its time, and the page's own Python at the end. The environment is not made
anew: `make venv` and `source` are left out, and the programs are those that run this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = ("make venv", "source ")


def main() -> int:
    page = ROOT / sys.argv[1]
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", page.read_text(), re.S | re.M)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(clone)}
        for language, block in blocks:
            lines = [block] if language == "python" else block.replace("\\\n", " ").splitlines()
            for line in lines:
                if line.strip() and not line.startswith(LEFT_OUT):
                    began = time.monotonic()
                    program = [sys.executable] if language == "python" else ["bash"]
                    print(f"$ {line.strip()}", flush=True)
                    done = subprocess.run(
                        [*program, "-c", line], cwd=clone, env=environment, check=False
                    )
                    print(
                        f"  ({time.monotonic() - began:.1f} s, code {done.returncode})", flush=True
                    )
                    if done.returncode:
                        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
