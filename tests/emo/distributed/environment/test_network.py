"""The address that gloo listens on, and what NCCL is told to write down."""

import os
import resource
import subprocess
import sys

import pytest

from emo.distributed.config import RuntimeMismatch
from emo.distributed.environment import network
from tests.conftest import ROOT


@pytest.fixture
def two_nodes(monkeypatch):
    """Of one process each; this is one of them."""
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "1"), ("RANK", "0"),
                        ("MASTER_ADDR", "10.0.0.1"), ("GLOO_SOCKET_IFNAME", "lo")):  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DUMP_ON_TIMEOUT",
                 "TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE",
                 "EMO_EXIT_FILE"):  # fmt: skip
        monkeypatch.setenv(name, "")  # it is put back at the end, whoever sets it meanwhile
        monkeypatch.delenv(name)
    return monkeypatch


def test_the_address_is_the_interfaces(two_nodes):
    assert network.gloo_address() == "127.0.0.1"
    assert network.describe() == "gloo on 127.0.0.1, NCCL on the interface it finds"
    two_nodes.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    with pytest.raises(RuntimeMismatch, match=r"GLOO_SOCKET_IFNAME=nowhere0: .*machine has .*lo"):
        network.gloo_address()


def test_loopback_between_nodes_is_an_error_before_training(two_nodes):
    with pytest.raises(RuntimeMismatch, match=r"127\.0\.0\.1, which no other node reaches; set "
                       "GLOO_SOCKET_IFNAME"):  # fmt: skip
        network.check()
    two_nodes.setenv("MASTER_ADDR", "127.0.0.1")  # two "nodes" of a test cluster
    network.check()
    two_nodes.setenv("MASTER_ADDR", "10.0.0.1")
    two_nodes.setenv("LOCAL_WORLD_SIZE", "2")  # one node
    network.check()


def test_the_flight_recorder_is_on_where_nccl_is_used(two_nodes, tmp_path):
    two_nodes.setenv("EMO_EXIT_FILE", str(tmp_path / "code"))
    network.prepare(tmp_path / "run", on_cpu=True)
    assert "TORCH_FR_BUFFER_SIZE" not in os.environ
    assert os.environ["TORCH_GLOO_LAZY_INIT"] == "1"
    network.prepare(tmp_path / "run", on_cpu=False)
    assert os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == str(tmp_path / "run/nccl/rank")
    assert (tmp_path / "traces").read_text() == str(tmp_path / "run/nccl")
    (tmp_path / "run").mkdir()
    network.make_traces(tmp_path / "run")
    assert (tmp_path / "run/nccl").is_dir()


def test_what_the_user_set_stays(two_nodes, tmp_path):
    two_nodes.setenv("TORCH_FR_BUFFER_SIZE", "7")
    two_nodes.setenv("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "/elsewhere/rank")  # the older name
    network.prepare(tmp_path, on_cpu=False)
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "7"
    assert "TORCH_FR_DUMP_TEMP_FILE" not in os.environ
    network.make_traces(tmp_path)
    assert not (tmp_path / "nccl").exists()


def test_the_limit_of_open_files_is_raised():
    """It is asked for by a process whose soft limit is low, as on most machines."""
    code = ("import resource\nfrom shards.processes import raise_file_limit\n"
            "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\nraise_file_limit()\n"
            "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert int(done.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1], done.stderr
