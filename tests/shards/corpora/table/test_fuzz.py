"""Damaged tables and specs: each is read or ends in an error for people, never in a traceback.

A sample of the mutations runs always; the whole sweep carries the mark `torture`.
"""

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shards.configfile import parse
from shards.corpora.table.reader import TableConfig
from shards.errors import UserError

ROWS = [
    {"id": f"u{n}", "path": "a.wav", "text": 'She said "no", twice', "emotion": "joy",
     "votes": "joy;rage,joy", "start": f"0 days 00:00:0{n}.5", "end": f"00:00:0{n + 1},500",
     "scene": f"s{n // 2}", "turn": n}
    for n in range(4)
]  # fmt: skip
SPEC = {
    "name": "corpus",
    "tables": "table.csv",
    "patterns": [{"column": "id", "regex": r"u(?P<number>\d)"}],
    "fields": {
        "id": "id", "audio": "path", "text": "text", "label": "emotion", "votes": "votes",
        "start": "start", "end": "end", "dialogue": "{scene}-{number}", "turn": "turn",
        "speaker": {"column": "number", "map": {"0": "a", "1": "b", "2": "c", "3": "d"}},
    },
    "labels": {"joy": "hap", "rage": "ang"},
}  # fmt: skip
PIECES = [b'"', b"\t", b",", b"\n", b"\r", b"\0", b"NaN", b"null", b"NaT", b"-1", b"1e999", b"{",
          b"}", b"[", b"]", b"\xff", b"\\ud83d", b"\xed\xa0\x80", b"\xef\xbb\xbf", b": ", b"../",
          b"<<: *x", b"&x ", b"!!python/name:os.system ", b"  ", b"(?P<", b"*" * 40]  # fmt: skip
SECONDS = 5.0


def write_table(path):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(ROWS[0])]
        for row in ROWS:
            cells = (str(cell).replace('"', '""') for cell in row.values())
            lines.append(mark.join(f'"{cell}"' for cell in cells))
        path.write_text("\n".join(lines) + "\n")


def mutate(data, rng):
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 3)):
        place = int(rng.integers(0, len(damaged) + 1))
        match rng.integers(0, 4):
            case 0:
                damaged[place:place] = PIECES[rng.integers(0, len(PIECES))]
            case 1:
                del damaged[place : place + int(rng.integers(1, 12))]
            case 2:
                damaged[place : place + 1] = rng.bytes(1)
            case 3:
                other = int(rng.integers(0, len(damaged) + 1))
                damaged[place:place] = damaged[other : other + 30]
    return bytes(damaged)


def sweep(root, count, seed):
    rng = np.random.default_rng(seed)
    (root / "a.wav").write_bytes(b"RIFF")
    ends = {"read": 0, "refused": 0}
    for number in range(count):
        suffix = ("csv", "tsv", "jsonl", "parquet")[number % 4]
        spec = SPEC | {"tables": f"table.{suffix}", "quoting": True}
        write_table(root / f"table.{suffix}")
        if number % 3 == 0:
            path = root / "spec.yaml"
            path.write_bytes(mutate(yaml.safe_dump(spec).encode(), rng))
            spec = str(path)
        else:
            table = root / f"table.{suffix}"
            table.write_bytes(mutate(table.read_bytes(), rng))
        started = time.monotonic()
        raw = {"root": str(root), "spec": spec, "max_problems": int(rng.integers(0, 4))}
        try:
            corpus = parse(TableConfig, raw, "the test").read()
        except UserError as error:
            str(error).encode("utf-8")
            ends["refused"] += 1
        else:
            facts = [[one.id, one.text, one.source] for one in corpus.utterances]
            json.dumps(facts, ensure_ascii=False).encode()
            ends["read"] += 1
        assert time.monotonic() - started < SECONDS, (seed, number)
    assert min(ends.values()) > count // 50, ends  # both ends are reached
    return ends


def test_a_sample_of_damaged_tables_and_specs(tmp_path):
    sweep(tmp_path, 240, seed=1)


@pytest.mark.torture
def test_thousands_of_damaged_tables_and_specs(tmp_path):
    print(sweep(tmp_path, 6000, seed=2))
