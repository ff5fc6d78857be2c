"""Two corpora trained together on 1, 2 and 3 processes: the losses must be those of one process.

A small sample corpus is spoken and split by voice into two: the female voices, and the male ones
with other words for the emotions, without frustration, and with half of the neutral turns. Both are
built into shards, and the fusion of the sample configurations is trained on both with equal shares,
which repeats the smaller one within an epoch.

    python benchmarks/corpora_mixed.py [--markdown FILE]

"off one process" is the largest difference of a step's loss from that of one process in fp64.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from strategies import DIALOGUES, ROOT, Job, losses, run_job  # this folder's
from table import Table

from emo.runs import files
from shards.corpora.iemocap.reader import IemocapConfig
from shards.corpora.read import read_corpus

WORDS = {"ang": "rage", "hap": "joy", "exc": "thrill", "neu": "plain", "sad": "sorrow"}
HEADS = ("precision", "processes", "steps", "final loss", "off one process", "alba WA %",
         "bruno WA %")  # fmt: skip


def shards(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "shards", *words], capture_output=True, text=True,
                          cwd=ROOT)  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)


def split(corpus: Path, folder: Path) -> None:
    """Write the corpora `alba` and `bruno`: tables, their recordings, and their specs."""
    turns = read_corpus(IemocapConfig(reader="iemocap", root=corpus)).utterances
    neutral = 0
    for name, voice in (("alba", "F"), ("bruno", "M")):
        (folder / name).mkdir()
        rows = []
        for one in turns:
            if not one.speaker.endswith(voice) or one.audio is None:
                continue
            words = {code: code for code in ("ang", "hap", "exc", "neu", "sad", "fru")}
            if name == "bruno":
                words = WORDS
                neutral += one.label == "neu"
                if one.label == "neu" and neutral % 2:
                    continue
            if one.label not in words:
                continue
            shutil.copy(one.audio, folder / name / f"{one.id}.wav")
            rows.append({"id": one.id, "audio": f"{one.id}.wav", "text": one.text,
                         "label": words[one.label], "speaker": one.speaker,
                         "session": one.session, "dialogue": one.dialogue})  # fmt: skip
        table = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / "turns.jsonl").write_text(table)
        spec = {"tables": "turns.jsonl", "fields": {key: key for key in rows[0]},
                "labels": {word: code for code, word in words.items()}}  # fmt: skip
        (folder / f"{name}.yaml").write_text(json.dumps(spec))  # JSON is YAML


def make_data(folder: Path) -> str:
    """Both datasets, as `data.shards` with equal weights."""
    shards("sample-corpus", str(folder / "corpus"), "--dialogues", str(DIALOGUES))
    split(folder / "corpus", folder)
    config, made = str(ROOT / "configs/shards/sample.yaml"), []
    for name in ("alba", "bruno"):
        made.append(folder / f"{name}-shards")
        text = (
            []
            if name == "alba"
            else [f"text={{tokenizer: {made[0] / 'tokenizer'}, max_tokens: 128}}"]
        )
        source = f"{{reader: table, root: {folder / name}, spec: {folder / f'{name}.yaml'}}}"
        shards("build", config, f"corpus={source}", f"output.folder={made[-1]}",
               "augment.variants=[]", "vocabulary_view.protocol=random", *text)  # fmt: skip
    return f"{{{made[0]}: 1, {made[1]}: 1}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch.utils.tensorboard  # noqa: F401  (what every rank needs, once)

    import emo.training.train  # noqa: F401

    settings = ("model.freeze=[]", "data.view.protocol=random", "data.normalise=train")
    jobs = [
        Job("cpu", precision, world, overrides=settings)
        for precision in ("fp64", "fp32")
        for world in (1, 2, 3)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = make_data(folder)
        print(data, flush=True)
        for job in jobs:
            run_job(job, folder, data, 0)  # type: ignore[arg-type]
            print(job.name, flush=True)
        one = losses(folder / jobs[0].name)
        for job in jobs:
            run = folder / job.name
            found = losses(run)
            off = max(abs(a - b) for a, b in zip(found, one, strict=True))
            results = json.loads(files.metrics(run).read_text())
            by_corpus = results["parts"]["test"]["corpora"]
            rows.append(
                [job.precision, str(job.world), str(len(found)), f"{found[-1]:.6f}", f"{off:.1e}"]
                + [f"{100 * by_corpus[name]['wa']:.1f}" for name in ("alba", "bruno")]
            )
        passes = {one["name"]: one["passes"] for one in results["corpora"]}
    told = ", ".join(f"{name} {often:.2f} times" for name, often in passes.items())
    table = Table(f"two corpora mixed 1 : 1; an epoch goes through {told}", HEADS, rows)
    table.show()
    if options.markdown:
        options.markdown.write_text(table.markdown())


if __name__ == "__main__":
    main()
