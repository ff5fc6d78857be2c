"""Stands in for a training: a score a epoch from its settings, resumed where it was stopped."""

import json
import os
import signal
import sys
import time
from pathlib import Path

EPOCHS = 4


def main() -> int:
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    settings = dict(word.split("=", 1) for word in sys.argv[3:])
    run = Path(json.loads(settings["run"]))
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    rate, layers = float(settings["optim.lr"]), int(settings["model.text.build.layers"])
    log = run / "log.jsonl"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    for epoch in range(done + 1, EPOCHS + 1):
        time.sleep(0.05)
        if told:
            return 75
        score = epoch / 10 - abs(rate - 3e-3) * 20 + layers / 100
        line = {"group": "val", "step": 10 * epoch, "ua": score}
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        (run / "checkpoints" / "best.json").write_text(json.dumps({"step": 1, "score": score}))
    if settings["model.text.pooling"] == '"cls"':
        return 2  # as if these settings could not be
    (run / "metrics.json").write_text("{}")
    return 0


sys.exit(main())
