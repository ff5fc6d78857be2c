"""A name on the hub where there is no network: one request, and a message that names the key."""

import os
import subprocess
import sys

from tests.conftest import ROOT

LOADS = """
import time, transformers
from shards.extract.text import Tokens
begin = time.monotonic()
try:
    Tokens("lab/nowhere", 8, "model.text.encoder")
except ValueError as error:
    print(error)
print(time.monotonic() - begin)
"""


def test_without_a_network_the_hub_is_asked_once(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-c", LOADS],
        env=environment | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9",
                           "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    message, seconds = done.stdout.splitlines()
    assert message.endswith("copy the folder here and set model.text.encoder to it")
    assert "Retrying" not in done.stderr
    assert float(seconds) < 20  # half a minute before, and more on a slow machine
