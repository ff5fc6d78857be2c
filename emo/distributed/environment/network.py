"""The network between ranks: the address they use, and what NCCL writes down when one hangs."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from emo.distributed import launcher
from emo.distributed.config import RuntimeMismatch

_SIOCGIFADDR = 0x8915  # ioctl(2): the IPv4 address of a network interface
_GLOO, _NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
# Each of these has an older name, which a user may have set.
_RECORDER = {
    "TORCH_FR_BUFFER_SIZE": "TORCH_NCCL_TRACE_BUFFER_SIZE",
    "TORCH_FR_DUMP_TEMP_FILE": "TORCH_NCCL_DEBUG_INFO_TEMP_FILE",
}


def prepare(run: Path | None, on_cpu: bool) -> None:
    """Set what gloo and NCCL read when they start; what the user has set stays.

    Args:
        run: the run folder, below which NCCL's flight recorder leaves its files.
    """
    # All ranks to all others would be a file descriptor a pair; the ring needs its neighbours.
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    if on_cpu or run is None or launcher.world() == 1:
        return
    ours = {"TORCH_FR_BUFFER_SIZE": "2000", "TORCH_FR_DUMP_TEMP_FILE": str(traces(run) / "rank")}
    for name, older in _RECORDER.items():
        if older not in os.environ:
            os.environ.setdefault(name, ours[name])
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    launcher.note_traces(traces(run))


def traces(run: Path) -> Path:
    """The folder of NCCL's flight recorder: a file a rank, for `torchfrtrace`."""
    return run.absolute() / "nccl"


def make_traces(run: Path) -> None:
    """Make the folder of `traces`, if NCCL was told of it; the run folder must be ours by now."""
    if os.environ.get("TORCH_FR_DUMP_TEMP_FILE", "").startswith(f"{traces(run)}/"):
        traces(run).mkdir(exist_ok=True)


def gloo_address() -> str:
    """The IPv4 address that gloo binds to: of GLOO_SOCKET_IFNAME, else of this host's own name.

    Raises:
        RuntimeMismatch: there is no such interface, or it has no address.
    """
    interface = os.environ.get(_GLOO, "").split(",")[0]
    if not interface:
        try:
            return socket.gethostbyname(socket.gethostname())
        except OSError:
            return "127.0.0.1"  # gloo's own choice then
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            word = struct.pack("256s", interface[:15].encode())
            return socket.inet_ntoa(fcntl.ioctl(one, _SIOCGIFADDR, word)[20:24])
        except OSError:
            known = ", ".join(name for _, name in socket.if_nameindex())
            raise RuntimeMismatch(
                f"{_GLOO}={interface}: no such network interface with an address here; this "
                f"machine has {known}"
            ) from None


def describe() -> str:
    """For the banner, where there are several nodes: what gloo and NCCL use."""
    return f"gloo on {gloo_address()}, NCCL on {os.environ.get(_NCCL, 'the interface it finds')}"


def check() -> None:
    """Refuse an address that other nodes cannot reach.

    Raises:
        RuntimeMismatch: with the variable that helps.
    """
    if launcher.nodes() == 1 or _is_loopback(launcher.main_address()):
        return  # "nodes" that meet at a loopback address are one machine: a test cluster
    address = gloo_address()
    if _is_loopback(address):
        raise RuntimeMismatch(
            f"{socket.gethostname()}: gloo would listen on {address}, which no other node reaches; "
            f"set {_GLOO} (and {_NCCL}) to the interface of the network between the nodes "
            "(`ip -brief address` lists them; slurm/site.sh has a place for both)"
        )


def _is_loopback(address: str) -> bool:
    try:
        return socket.gethostbyname(address).startswith("127.")
    except OSError:
        return False
