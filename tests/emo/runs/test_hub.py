"""Encoders that are names on the hub are asked for by one rank a node, and read from the cache."""

import os
import subprocess
import sys

import transformers

from emo.config import ExperimentConfig
from emo.runs.experiment import hub_encoders
from shards.configfile import parse
from tests.conftest import ROOT

LOADS = """
import sys
from emo.distributed.config import RuntimeConfig
from emo.distributed.runtime import Runtime
from emo.models.pretrained import load_encoder
from shards.extract.text import stay_offline

runtime = Runtime.start(RuntimeConfig(), accumulation=1, micro_batch=1, clip=0.0)
runtime.once_a_node(lambda: print("asks", runtime.rank, flush=True))
stay_offline()
print(type(load_encoder("lab/bert", "model.text.encoder")).__name__, runtime.rank, flush=True)
"""


def encoders(lab, folder, encoder):
    text = {"encoder": encoder, "pooling": "mean"}
    settings = lab.settings(folder, folder / "run", model={"text": text})
    return hub_encoders(parse(ExperimentConfig, settings, "the tests"))


def test_only_names_on_the_hub_are_asked_for(lab, tmp_path):
    assert encoders(lab, tmp_path, "google/bert") == {"model.text.encoder": "google/bert"}
    assert encoders(lab, tmp_path, str(tmp_path)) == {}
    assert encoders(lab, tmp_path, "./not-there") == {}


def test_one_rank_asks_and_all_read_the_cache(tmp_path):
    """The hub is where nobody listens: a rank that asked would fail, or wait."""
    repository = tmp_path / "hub/models--lab--bert"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 24, "vocab_size": 60}  # fmt: skip
    model = transformers.BertModel(transformers.BertConfig(**sizes))
    model.save_pretrained(repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "--no-python", sys.executable, "-c", LOADS],
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9",
                          "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.split()[0] in ("asks", "BertModel")]
    assert sorted(lines) == ["BertModel 0", "BertModel 1", "asks 0"]
    assert lines.index("asks 0") == 0
