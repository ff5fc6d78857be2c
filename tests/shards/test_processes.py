import os
import platform
import subprocess
import sys
from pathlib import Path

from shards.processes import spin_little

SCRIPT = """
import resource, sys
import numpy as np
from shards.processes import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def work():
    arrays = [np.ones(400_000, dtype=np.float32) for _ in range(8)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_arrays_are_not_paid_for_with_page_faults_again_and_again():
    def faults(how):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    kept = faults("kept")
    if platform.libc_ver()[0] == "glibc":  # elsewhere the call must only do no harm
        assert kept < faults("as it is") / 10


def test_threads_spin_little_unless_the_environment_says_more(monkeypatch):
    for given, expected in (
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        spin_little()
        assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_emo_says_so_before_torch_is_there():
    program = (
        "import os, sys; from emo.__main__ import main; assert 'torch' not in sys.modules; "
        "code = main(['config', 'configs/sample/text.yaml']); "
        "print(os.environ['GOMP_SPINCOUNT']); sys.exit(code)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT",)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True,
        check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.rstrip().endswith("1000")
