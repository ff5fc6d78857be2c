"""Damaged configurations: each is read or refused in words for people, never with a traceback.

A sample of the mutations runs always; the whole sweep carries the mark `torture`.
"""

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from emo.config import ExperimentConfig
from shards.config import ShardConfig
from shards.configfile import dump, load
from shards.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = {"corpus": ShardConfig, "data": ExperimentConfig}  # by a section that only one has
PIECES = ["{", "}", "[", "]", ": ", "- ", "&a ", "*a", "<<: *a", "!!int ", "!!binary ", "!!set ",
          "!!python/name:os.system ", "? ", "|\n", "'", '"', "\t", "\n", "  ", "#", "%", "@", "~x/",
          "2020-99-99", "2020-01-01", "1e999", ".nan", "0x", "1:99", "no", "null", "\0",
          "\ufeff", "\u2028", "[" * 200, "9" * 5000]  # fmt: skip
WORDS = ["=", "a", "seed=", "seed=x", "seed=1e400", "labels=[", "labels={01: hap}", "output=3",
         "output.folder=~nobody/x", "output.folder=\udce4", "train.epochs=-1", "data.view.fold=03",
         "model=null", "model.audio=[]", "features.mels=" + "9" * 5000,
         "text.max_tokens=2020-99-99", "seed=3",
         "labels=four", "run=~/x",
         "corpus.spec=&a [*a]", "corpus.spec={fields: {id: 01}}", "optim.name=AdamWW", "run=\0",
         "data.view={protocol: {random: 1}}", "..=1", "a..b=1", "init.text=~"]  # fmt: skip
SECONDS, BYTES = 5.0, 2**30


def mutate(text, rng):
    """A copy of `text` with pieces put in, lines lost, moved, indented or repeated."""
    for _ in range(rng.integers(1, 3)):
        place = int(rng.integers(0, len(text) + 1))
        lines = text.split("\n")
        line = int(rng.integers(0, len(lines)))
        match rng.integers(0, 6):
            case 0:
                text = text[:place] + PIECES[rng.integers(0, len(PIECES))] + text[place:]
            case 1:
                text = text[:place] + text[place + int(rng.integers(1, 20)) :]
            case 2:
                text = "\n".join([*lines[:line], "  " + lines[line], *lines[line + 1 :]])
            case 3:
                text = "\n".join(lines[:line] + lines[line + 1 :] + [lines[line]])
            case 4:
                key = lines[line].partition(":")[0]
                value = PIECES[rng.integers(0, len(PIECES))]
                text = "\n".join([*lines[:line], f"{key}: {value}", *lines[line + 1 :]])
            case 5:
                text = "\n".join(lines[: line + 1] + lines[line:])
    return text


def peak():
    """The most memory that this process ever held, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def sweep(tmp_path, count, seed):
    rng = np.random.default_rng(seed)
    found = []
    for path in sorted(CONFIGS.rglob("*.yaml")):
        kind = next((k for s, k in KINDS.items() if f"\n{s}:" in "\n" + path.read_text()), None)
        if kind is not None:
            found.append((kind, path.read_text(encoding="utf-8")))
    assert {kind for kind, _ in found} == set(KINDS.values())
    ends, before, slowest = {"read": 0, "refused": 0}, peak(), 0.0
    for number in range(count):
        kind, text = found[rng.integers(0, len(found))]
        path = tmp_path / "config.yaml"
        damaged = mutate(text, rng) if number % 4 else text
        path.write_text(damaged, encoding="utf-8", errors="surrogatepass")
        words = [WORDS[rng.integers(0, len(WORDS))]] if number % 2 == 0 else []
        started = time.monotonic()
        try:
            dump(load(kind, path, words))
        except UserError as error:
            str(error).encode()
            ends["refused"] += 1
        else:
            ends["read"] += 1
        slowest = max(slowest, time.monotonic() - started)
        assert slowest < SECONDS, (seed, number)
        assert peak() - before < BYTES, (seed, number)
    assert min(ends.values()) > count // 50, ends  # both ends are reached
    return ends | {"slowest": slowest, "memory": peak() - before}


def test_a_sample_of_damaged_configurations(tmp_path):
    sweep(tmp_path, 100, seed=1)


@pytest.mark.torture
def test_hundreds_of_damaged_configurations(tmp_path):
    print(sweep(tmp_path, 500, seed=2))
