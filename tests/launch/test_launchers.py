"""Every launcher that people use: it trains what it started, saves when stopped, and resumes."""

import json
import os
import signal
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT, Run

EMO = ["-m", "emo", "train"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def ours(name):
    return [*ACCELERATE, "--config_file", f"launch/accelerate/{name}.yaml",
            "--main_process_port", "0", *EMO]  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """What `accelerate config` writes for a CPU and for GPUs, with a precision."""
    folder = tmp_path_factory.mktemp("accelerate")
    common = {
        "compute_environment": "LOCAL_MACHINE", "debug": False, "downcast_bf16": "no",
        "machine_rank": 0, "main_training_function": "main", "mixed_precision": "bf16",
        "num_machines": 1, "num_processes": 2, "rdzv_backend": "static", "same_network": True,
    }  # fmt: skip
    for name, kind, cpu in (("cpu", "MULTI_CPU", True), ("gpu", "MULTI_GPU", False)):
        text = yaml.safe_dump(common | {"distributed_type": kind, "use_cpu": cpu})
        (folder / f"{name}.yaml").write_text(text)
    return folder


LAUNCHERS = {  # command without the configuration; strategy, processes and precision that run
    "python": (lambda own: [sys.executable, *EMO], "cpu", 1, "fp32"),
    "torchrun": (
        lambda own: [*TORCHRUN, "--standalone", "--nproc-per-node", "2", *EMO], "cpu", 2, "fp32"
    ),
    "accelerate": (lambda own: ours("cpu"), "cpu", 2, "fp32"),
    "zero2": (lambda own: ours("zero2"), "zero2", 2, "fp32"),
    "fsdp": (lambda own: ours("fsdp"), "fsdp", 2, "fp32"),
    "own CPU": (
        lambda own: [*ACCELERATE, "--config_file", str(own / "cpu.yaml"), *EMO], "cpu", 1, "bf16"
    ),
    "own GPU": (
        lambda own: [*ACCELERATE, "--config_file", str(own / "gpu.yaml"),
                     "--main_process_port", "0", *EMO], "cpu", 2, "bf16",
    ),
}  # fmt: skip


@pytest.fixture
def start(lab, tiny, tmp_path):
    """`start(command, *overrides, **environment)`: it runs, in a process group of its own."""
    runs = []

    def begin(command, *overrides, **environment):
        settings = lab.settings(
            tiny, tmp_path / "run", train__epochs=40, train__checkpoint_steps=1000, resume="auto"
        )
        log = tmp_path / f"{len(runs)}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE", "EMO_"))}
        clean |= {"PYTHONPATH": str(ROOT), "EMO_TEST_RUN": str(log), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, str(lab.write(settings)), *overrides],
            cwd=ROOT, env=clean | environment, stdin=subprocess.DEVNULL, stdout=log.open("w"),
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        runs.append(Run(process, log))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.kill_all()


def banner(run):
    return next(line for line in run.output.splitlines() if line.startswith("strategy "))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_it_trains_what_was_started_saves_on_ctrl_c_and_goes_on(name, start, own, tmp_path):
    command, strategy, processes, precision = LAUNCHERS[name]
    run = start(command(own))
    run.wait_for("epoch 1/40")
    os.killpg(run.process.pid, signal.SIGINT)  # the terminal's: all of the group
    run.process.wait(60)
    assert run.gone()
    assert "run again with resume=auto" in run.output, run.output
    assert json.loads((tmp_path / "run/exit.json").read_text())["code"] == 75
    said = banner(run)
    assert said.startswith(f"strategy {strategy} · {processes} process"), said
    assert f" · {precision} · " in said
    assert said.endswith("strategy, processes, precision as launched")
    recorded = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["runtime"]
    assert [recorded[key] for key in ("strategy", "processes", "precision")] == [
        strategy, processes, precision
    ]  # fmt: skip

    again = start(command(own), "train.epochs=40")
    again.wait_for("resumed at step")
    os.kill(again.process.pid, signal.SIGTERM)  # to the launcher alone
    again.process.wait(60)
    assert again.gone()
    assert again.output.count("run again with resume=auto") == 1, again.output
