"""A corpus, configurations and a site file, to run the programs themselves on the scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STAGES = ("preprocess", "merge", "text", "audio", "fusion", "evaluate")
RUNS = ("text", "audio", "fusion")
VIEW = {"protocol": "random_dialogues", "labels": "five", "test": 0.2, "val": 0.2, "seed": 1}
TEXT = {
    "build": {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "positions": 64},
    "pooling": "mean",
}
AUDIO = {"channels": [4, 8], "hidden": 8}
BRIEF = {"epochs": 1, "global_batch": 16, "evaluation_batch": 64}
LONG = {"epochs": 10, "global_batch": 2, "evaluation_batch": 64}  # time enough to stop it in


class Lab:
    """A corpus, configurations and a site file in a folder; commands run in the repository."""

    def __init__(self, cluster, folder: Path) -> None:
        self.cluster, self.folder, self.runs = cluster, folder, folder / "runs"
        path = os.pathsep.join([str(Path(sys.executable).parent), cluster.env["PATH"]])
        self.env = {
            "PATH": path,
            "EMO_SITE": str(folder / "site.sh"),
            "OMP_NUM_THREADS": "1",  # the same sums in the same order everywhere
        }
        (folder / "site.sh").write_text(
            f"source slurm/site.sh\nSITE_RUNS={self.runs} SITE_CPUS_PREPROCESS=1\n"
        )
        made = self.command("emo-shards", "sample-corpus", folder / "corpus", "--dialogues", "5")
        assert made.returncode == 0, made.stderr
        shards = {
            "corpus": {"reader": "iemocap", "root": str(folder / "corpus")},
            "augment": {"variants": ["shift"]},
            "features": {"kinds": ["logmel"], "mels": 16, "hop": 512},
            "text": {"learn": {"vocab_size": 200}},
            "vocabulary_view": VIEW,
            "output": {"folder": str(folder / "shards"), "utterances_per_shard": 16},
        }
        data = {"shards": str(folder / "shards"), "view": VIEW, "workers": 0}
        both = {"text": TEXT, "audio": AUDIO, "fusion": {"kind": "paper"}}
        self.write("shards", shards)
        self.write("text", {"data": data, "model": {"text": TEXT}, "train": LONG})
        self.write("audio", {"data": data, "model": {"audio": AUDIO}, "train": BRIEF})
        init = {branch: str(folder / branch) for branch in RUNS[:2]}  # submit.sh names the chain's
        self.write("fusion", {"init": init, "data": data, "model": both, "train": BRIEF})

    def write(self, name: str, config: dict) -> None:
        named = config if name == "shards" else {"name": name, **config}
        self.config(name).write_text(yaml.safe_dump(named))

    def config(self, name: str) -> Path:
        return self.folder / f"{name}.yaml"

    def command(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would, in the repository, away from the scheduler."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=ROOT,
            env=self.cluster.env | self.env | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def submit(self, *words: object) -> int:
        command = ("sbatch", "--parsable", f"--output={self.folder}/job-%j.log")
        return int(self.call(*command, *words))

    def call(self, *words: object) -> str:
        return self.cluster.call(*(str(word) for word in words), cwd=ROOT, **self.env)

    def train(self, strategy: str, name: str, *settings: str, options: tuple = ()) -> int:
        """A text training over both nodes, in runs/NAME."""
        script = ("--nodes=2", "slurm/train.sbatch", strategy, self.config("text"))
        return self.submit(*options, *script, f"run={self.runs / name}", *settings)

    def log(self, job: int) -> str:
        path = self.folder / f"job-{job}.log"
        return path.read_text() if path.exists() else ""

    def wait_log(self, job: int, text: str, count: int = 1, seconds: float = 300) -> None:
        """Wait until the job's log holds `text` `count` times; a requeue's two minutes are cut."""

        def there() -> bool:
            if self.log(job).count(text) >= count:
                return True
            found = self.cluster.job(job)
            assert found.get("JobState") not in ("FAILED", "COMPLETED"), self.log(job)
            if found.get("Reason") == "BeginTime":
                self.cluster.start_now(job)
            return False

        self.cluster.wait_for(there, f"{text!r} in the log of job {job}", seconds)

    def wait_all(self, what: str) -> None:
        """Wait until no job waits or runs."""
        self.cluster.wait_for(lambda: not self.call("squeue", "--noheader"), f"{what} to end", 300)
