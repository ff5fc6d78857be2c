"""A real SLURM (munged, slurmctld, three slurmd) on this host, for the tests of this folder.

It lives in a folder and on ports of its own, is found through SLURM_CONF alone, and so neither
sees nor touches a scheduler that is already here. `keeper.py` owns its processes and ends them
however pytest ends.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo")
INSTALL = "apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge"
WITHOUT = "SLURM's programs are missing"
NODES = ("n1", "n2", "n3")  # n3 is given out last: it stands in for one that dies
CPUS = 8  # declared a node, whatever the machine has: two jobs side by side with site.sh's values
GPUS = ("/dev/null", "/dev/zero")  # what SLURM takes for the GPUs of each node
CONFIGURATION = """\
ClusterName=emotest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
ReturnToService=2
JobRequeue=1
GresTypes=gpu
SlurmdTimeout=20
KillWait=15
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP
"""


def search_path() -> str:
    """PATH, and the folders of system daemons, which an ordinary user's PATH lacks."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Cluster:
    """The running scheduler. Clients reach it with the environment `env`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hastened: set[tuple[int, str]] = set()
        # SLURM_ and SBATCH_ variables of a job that runs these tests must not reach ours.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        self.env = kept | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": search_path(),
        }
        folder.chmod(0o711)  # munged wants its socket within everybody's reach
        self._write_configuration()
        self.keeper = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "keeper.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=(folder / "keeper.log").open("wb"),
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=folder,
            start_new_session=True,  # a Ctrl-C for pytest is none for it
        )

    def _write_configuration(self) -> None:
        host = socket.gethostname().split(".")[0]
        controller_port, *ports = free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
            f"Gres=gpu:{len(GPUS)} Weight={weight} State=UNKNOWN"
            for weight, (name, port) in enumerate(zip(NODES, ports, strict=True), start=1)
        )
        (self.folder / "state").mkdir()
        for name in NODES:
            (self.folder / f"spool-{name}").mkdir()
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host,
                controller_port=controller_port,
                user=getpass.getuser(),
                folder=self.folder,
                nodes=nodes,
            )
        )
        # Unused, but slurmd looks for one, and what it finds in a container may not suit it.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for number, device in enumerate(GPUS):
            (self.folder / f"gpu{number}").symlink_to(device)
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    # -- start and stop ------------------------------------------------------------------------

    def _spawn(self, *command: str) -> None:
        assert self.keeper.stdin is not None
        self.keeper.stdin.write(json.dumps(command).encode() + b"\n")
        self.keeper.stdin.flush()

    def start(self) -> None:
        at = self.folder
        self._spawn(
            *(
                "munged",
                "--foreground",
                f"--socket={at}/munge.socket",
                f"--key-file={at}/munge.key",
            ),
            *(f"--pid-file={at}/munged.pid", f"--log-file={at}/munged.log"),
            *(f"--seed-file={at}/munged.seed", "--num-threads=2"),
        )
        self.wait_for(lambda: (at / "munge.socket").exists(), "munged to open its socket", 20)
        self._spawn("slurmctld", "-D", "-c")
        for name in NODES:
            self.start_node(name)
        self.wait_for(self.idle, "all nodes to be idle", 30)

    def start_node(self, name: str) -> None:
        self._spawn("slurmd", "-D", "-N", name)

    def idle(self) -> bool:
        states = self.call("sinfo", "--noheader", "--Node", "--format=%N %T", check=False)
        return sorted(set(states.split("\n"))) == [f"{name} idle" for name in NODES]

    def stop(self) -> None:
        """End every process of the cluster and of its jobs; delete its folder."""
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        assert self.keeper.wait(timeout=60) == 0, "some processes of the cluster would not end"

    # -- use -----------------------------------------------------------------------------------

    def call(
        self, *command: str, check: bool = True, cwd: Path | None = None, **environment: str
    ) -> str:
        """Standard output of a SLURM command (or any other), stripped."""
        path = f"{cwd}/bin:{self.env['PATH']}" if cwd else self.env["PATH"]
        done = subprocess.run(
            command,
            env=self.env | {"PATH": path} | environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def wait_for(
        self, condition: Callable[[], object], what: str, seconds: float = 30, every: float = 0.1
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}\n{self.story()}")
            time.sleep(every)

    def story(self) -> str:
        """What the scheduler knows and the end of each log, for a failed test's message."""
        parts = [self.call("scontrol", "show", "job", check=False)]
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"--- {log.name}", *lines]))
        return "\n".join(parts)

    def job(self, number: int) -> dict[str, str]:
        """The fields of `scontrol show job`; empty when the scheduler has forgotten the job."""
        text = self.call("scontrol", "--oneliner", "show", "job", str(number), check=False)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def state(self, number: int) -> str:
        return self.job(number).get("JobState", "")

    def wait_state(self, number: int, *states: str, seconds: float = 30) -> str:
        """Wait until the job is in one of `states`; returns which."""
        self.wait_for(
            lambda: self.state(number) in states,
            f"job {number} to be {' or '.join(states)}",
            seconds,
        )
        return self.state(number)

    def finish(self, number: int, seconds: float = 60) -> str:
        """Wait for the job's end, cutting the two minutes short that a requeued job waits."""

        def ended() -> bool:
            job = self.job(number)
            if job.get("Reason") == "BeginTime":
                self.start_now(number)
            return job.get("JobState") not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")

        self.wait_for(ended, f"job {number} to end", seconds)
        return self.state(number)

    def cancel_all(self) -> None:
        """End every job and wait until the nodes are free."""
        self.call("scancel", "--user", getpass.getuser(), check=False)
        self.call("scancel", "--user", getpass.getuser(), "--signal=KILL", "--full", check=False)
        self.wait_for(self.idle, "the nodes to be free", 60)

    def start_now(self, number: int) -> None:
        """A requeued job waits two minutes; this one need not, once its last start has ended.

        Two seconds it does: slurmd takes a start in the second of the last end for that one's.
        """
        job = self.job(number)
        restart = (number, job.get("Restarts", ""))
        if job.get("JobState") == "PENDING" and restart not in self._hastened:
            self._hastened.add(restart)
            self.call("scontrol", "update", f"jobid={number}", "StartTime=now+2", check=False)

    def kill_node(self, name: str) -> None:
        """What a power cut does: its slurmd, its slurmstepds and all their processes, at once."""
        victims = {int((self.folder / f"slurmd-{name}.pid").read_text())}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._on_node(entry, name):
                victims |= {int(entry.name), *step_daemons_above(entry)}
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _on_node(self, entry: Path, name: str) -> bool:
        """Whether /proc/PID is a process of one of our jobs on node `name`."""
        try:
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return {f"SLURM_CONF={self.folder}/slurm.conf", f"SLURMD_NODENAME={name}"} <= {*environment}


def step_daemons_above(entry: Path) -> Iterator[int]:
    """The slurmstepd that the process /proc/PID runs under, if it is still there."""
    with contextlib.suppress(OSError, IndexError):
        while int(entry.name) > 1:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            entry = entry.parent / parent
            if (entry / "cmdline").read_bytes().startswith(b"slurmstepd: ["):
                yield int(parent)


def require_programs() -> None:
    """Skip, or fail where EMO_REQUIRE_SLURM=1, when the scheduler is not installed."""
    missing = missing_programs()
    if not missing:
        return
    reason = f"{WITHOUT} ({', '.join(missing)}); install them: {INSTALL}"
    if os.environ.get("EMO_REQUIRE_SLURM") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
