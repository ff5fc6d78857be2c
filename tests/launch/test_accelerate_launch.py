"""launch/accelerate_launch.py by itself: what it makes of a rank that a signal ended."""

import os
import subprocess
import sys

from tests.conftest import ROOT

ABORTS = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"


def test_an_aborted_rank_is_passing_and_its_records_are_named(tmp_path):
    """NCCL's watchdog aborts the process of a collective that takes too long."""
    (tmp_path / "rank.py").write_text(ABORTS)
    (tmp_path / "traces").write_text("runs/one/nccl")
    done = subprocess.run(
        [sys.executable, "launch/accelerate_launch.py", "--config_file",
         "launch/accelerate/cpu.yaml", "--main_process_port", "0", "--num_processes", "1",
         str(tmp_path / "rank.py")],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT),
                          "EMO_EXIT_FILE": str(tmp_path / "code")},
    )  # fmt: skip
    assert done.returncode == 76, done.stderr
    assert "error: rank 0 was ended by SIGABRT" in done.stderr
    assert "what each rank waited for is in runs/one/nccl" in done.stderr
    assert "Traceback" not in done.stderr
