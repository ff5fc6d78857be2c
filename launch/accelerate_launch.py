"""`accelerate launch`, without its own traceback when a rank fails: the rank has said why.

SLURM sends its SIGTERM to every process. The launcher is deaf to it, and its ranks are until they
listen: it would kill them 30 s later, in the middle of a long save. launch/train.sh tells the
ranks, and the launcher ends with it, by SIGHUP.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
EXIT_TRANSIENT = 76  # nothing wrong in what was asked for: the same again may well succeed


def main() -> int:
    """Run the launcher on our arguments.

    Its exit code is 0 or 1; 76 if a signal ended the first rank to fail; 129 after a SIGHUP.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGHUP,SIGINT,SIGQUIT"  # torchrun's, without SIGTERM
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGHUP)
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
            print(f"error: rank {rank} was ended by {name}{memory}", file=sys.stderr)
            return EXIT_TRANSIENT
        return 1
    except SignalException:
        return 128 + signal.SIGHUP
    except subprocess.CalledProcessError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
