import platform
import subprocess
import sys

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
