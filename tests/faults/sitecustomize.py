"""Python imports a module of this name at its start: with this folder on PYTHONPATH, every rank of
a launch/train.sh has the fault that EMO_FAULT names, and the record that EMO_RECORD asks for.
"""

import os

if "RANK" in os.environ and ("EMO_FAULT" in os.environ or "EMO_RECORD" in os.environ):
    import faults

    faults.arm(os.environ.get("EMO_FAULT"), os.environ.get("EMO_RECORD"))
