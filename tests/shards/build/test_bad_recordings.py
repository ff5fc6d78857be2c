"""200 good recordings among one of each bad kind: the good ones' shards do not know of the bad."""

import io
import json
import shutil
from typing import get_args

import numpy as np
import soundfile

from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import parse
from shards.extract.audio import Kind

RATE = 16000
GOOD = 200


def encoded(wave, kind="WAV", subtype="PCM_16", rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def bad_files():
    """By the kind of its rejection: the content of a file that cannot be used, and its times."""
    wave = 0.3 * np.random.default_rng(0).standard_normal(RATE // 4).astype(np.float32)
    right = encoded(wave)
    loud, hollow = wave.copy(), wave.copy()
    loud[3], hollow[3] = 1e9, np.nan
    rate = bytearray(right)
    rate[24:28] = (1).to_bytes(4, "little")
    other = encoded(wave[: RATE // 8], "OGG", "VORBIS", 8000)
    flipped = bytearray(other)
    flipped[-20] ^= 1
    return {
        "empty": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"0" * 64
        + b"\nsize 4\n",
        "not audio": b"<html>404</html>",
        "no length": encoded(wave, "PVF"),
        "bad header": bytes(rate),
        "truncated": right[: len(right) // 2],
        "damaged": bytes(flipped),
        "several streams": encoded(wave, "OGG", "VORBIS") + other,
        "not finite": encoded(hollow, subtype="FLOAT"),
        "out of range": encoded(loud, subtype="FLOAT"),
        "too short": encoded(wave[:100]),
        "too long": encoded(np.tile(wave, 5)),
        "outside": encoded(wave),
        "silent": encoded(0 * wave),
    }


def test_the_shards_of_good_files_are_those_without_the_bad_ones(small, tmp_path):
    root = tmp_path / "corpus"
    small.write_corpus(root, turns=GOOD, seconds=0.2)
    rows = [json.loads(line) for line in (root / "turns.jsonl").read_text().splitlines()]
    bad = bad_files()
    for number, (kind, content) in enumerate(bad.items()):
        name = f"turn{15 * number:04d}_{kind.replace(' ', '-')}"  # spread over all shards
        (root / f"{name}.wav").write_bytes(content)
        times = {"start": 2.0, "end": 3.0} if kind == "outside" else {}
        more = {"id": name, "audio": f"{name}.wav", "dialogue": name, "turn": 0, "text": "no"}
        rows.append(rows[number] | more | times)
    missing = {"id": "turn0100_missing", "audio": "folder.wav", "dialogue": "m", "turn": 0}
    (root / "folder.wav").mkdir()
    rows.append(rows[0] | missing)
    rows = [{"start": 0.0, "end": None} | row for row in rows]
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = small.settings(root, tmp_path)["corpus"]["spec"]
    spec = spec | {"segments": True}
    spec["fields"] = spec["fields"] | {"start": "start", "end": "end"}

    def made(name, corpus):
        changes = {
            "corpus": {"reader": "table", "root": str(corpus), "spec": spec},
            "audio": {"sample_rate": RATE, "max_seconds": 1.0},
            "augment": {"variants": []},
            "output": {
                "folder": str(tmp_path / name),
                "utterances_per_shard": 32,
                "max_rejected": 0.1,
            },
        }
        raw = small.settings(corpus, tmp_path / name) | changes
        return build(parse(ShardConfig, raw, "the test"), workers=1)

    manifest = made("with", root)
    kinds = {*bad, "missing"}
    assert kinds == set(get_args(Kind)), "one of each kind"
    assert manifest.summary.rejected == dict.fromkeys(sorted(kinds), 1)
    lines = (tmp_path / "with" / "rejected.jsonl").read_text().splitlines()
    for one in map(json.loads, lines):
        assert one["utterance"].endswith(one["kind"].replace(" ", "-"))
        assert one["kind"] in one["reason"]
    assert manifest.summary.samples == GOOD

    shutil.copytree(root, tmp_path / "emptied")  # the same turns, the bad files without content
    for path in (tmp_path / "emptied").glob("turn*_*.wav"):
        path.write_bytes(b"")
    emptied = made("without", tmp_path / "emptied")
    assert emptied.summary.rejected == {"empty": len(bad), "missing": 1}
    assert len(manifest.shards) == 7
    assert [one.sha256 for one in emptied.shards] == [one.sha256 for one in manifest.shards]
    assert emptied.dataset_hash == manifest.dataset_hash
