"""`accelerate launch`, without a traceback of its own when a rank fails: the rank has printed why.

SLURM sends its SIGTERM to every process. The launcher ignores it, because torchrun would kill the
ranks 30 s later, in the middle of a long save. The ranks inherit this until they watch for signals
themselves; launch/train.sh sends them the SIGTERM. When train.sh dies, the kernel ends the launcher
with SIGHUP.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from emo.distributed.launch_files import EXIT_TRANSIENT
from shards.processes import die_with_parent, raise_file_limit


def main() -> int:
    """Run the launcher on our arguments.

    Its exit code is 0 or 1; 76 if a signal ended the first rank to fail; 129 after a SIGHUP.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGHUP,SIGINT,SIGQUIT"  # torchrun's, without SIGTERM
    raise_file_limit()  # of the store that all ranks talk to
    die_with_parent(signal.SIGHUP)  # not SIGKILL: it still has to end its ranks
    from accelerate.commands.launch import main as launch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)  # the launcher's only: ranks are processes of their own
    try:
        launch()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            memory = ", most often for want of memory" if name == "SIGKILL" else ""
            print(f"error: rank {rank} was ended by {name}{memory}{records(name)}", file=sys.stderr)
            return EXIT_TRANSIENT
        return 1
    except SignalException:
        return 128 + signal.SIGHUP
    except subprocess.CalledProcessError:
        return 1
    return 0


def records(name: str) -> str:
    """For a message: where NCCL left what it did, if it was NCCL that ended a rank."""
    path = Path(os.environ.get("EMO_EXIT_FILE", "")).with_name("traces")
    if name != "SIGABRT" or not path.is_file():
        return ""
    return (
        ", as NCCL's watchdog does when a collective takes longer than runtime.timeout_seconds: "
        f"what each rank waited for is in {path.read_text()} (torchfrtrace reads it)"
    )


if __name__ == "__main__":
    sys.exit(main())
