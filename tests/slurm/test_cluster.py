"""The test cluster itself: left out loudly where SLURM is missing, gone after its tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_left_out_tests_are_named_with_the_line_that_installs(tmp_path: Path) -> None:
    """Where the programs are missing, the tests are left out loudly, or fail if asked to."""
    (tmp_path / "bin").mkdir()
    shutil.copy(HERE / "conftest.py", tmp_path)
    source = (HERE / "cluster.py").read_text()
    assert '"munged",' in source
    (tmp_path / "cluster.py").write_text(source.replace('"munged",', '"munged-not-there",', 1))
    (tmp_path / "test_one.py").write_text("def test_one(cluster):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    plain = {name: v for name, v in os.environ.items() if name != "EMO_REQUIRE_SLURM"}
    left_out = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert left_out.returncode == 0
    assert "munged-not-there" in left_out.stdout
    assert "test_one.py::test_one" in left_out.stdout
    assert "apt-get install -y --no-install-recommends slurm-wlm munge" in left_out.stdout
    required = subprocess.run(
        command,
        cwd=tmp_path,
        env=plain | {"EMO_REQUIRE_SLURM": "1"},
        capture_output=True,
        text=True,
    )
    assert required.returncode == 1
    assert "munged-not-there" in required.stdout


@pytest.mark.slurm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_an_interrupted_test_run(
    cluster, tmp_path: Path, number: signal.Signals
) -> None:
    """A second cluster beside the first; its pytest is interrupted or killed while a job runs."""
    for name in ("conftest.py", "cluster.py", "keeper.py"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "test_one.py").write_text(
        "import time\n"
        "def test_one(cluster, tmp_path):\n"
        "    wrap = f'--wrap=touch {tmp_path}/begun; trap : TERM; sleep 600'\n"
        "    cluster.call('sbatch', wrap, cwd=tmp_path)\n"
        "    cluster.wait_for((tmp_path / 'begun').exists, 'the job')\n"
        f"    open({str(tmp_path / 'folder')!r}, 'w').write(str(cluster.folder) + '\\n')\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    told = tmp_path / "folder"
    cluster.wait_for(lambda: told.exists() and told.read_text().endswith("\n"), "the job", 60)
    folder = told.read_text().strip()
    assert len(processes_with(folder)) >= 7  # munged, slurmctld, three slurmd, slurmstepd, job
    process.send_signal(number)
    process.wait(timeout=60)
    cluster.wait_for(lambda: not processes_with(folder), "its processes to end", 30)
    assert not Path(folder).exists()
    assert cluster.idle()  # the other cluster has not been touched


def processes_with(folder: str) -> list[int]:
    """Ids of the processes whose command or environment names `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if folder.encode() in text:
                found.append(int(entry.name))
    return found
