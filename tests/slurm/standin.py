"""Stands in for launch/train.sh, emo and emo-shards where a test is about the scheduler alone.

Trains nothing, but the ranks (one a node) meet at the address and port that the job script gave
them, take every step together, save at SIGTERM and exit 75, and resume from the newest checkpoint.
A "model" is one number that depends on every step taken, so that a lost or doubled step shows.

Keys of a training: run=FOLDER, steps=N, seconds=S a step, every=N steps a checkpoint, startup=S
seconds before signals are heeded, fail_at=STEP (the last rank leaves the others and, `late` seconds
later, exits `code`, by default 1), kill_at=STEP (it dies by SIGKILL), lost=CODE|hang (what a rank
does when another one is gone).
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

stop = False


def request_stop(*_: object) -> None:
    global stop
    stop = True


def meet(rank: int, world: int) -> list[socket.socket]:
    """Rank 0: a connection to each other rank. The others: one to rank 0."""
    address = (os.environ["EMO_MAIN_ADDRESS"], int(os.environ["EMO_MAIN_PORT"]))
    if world == 1:
        return []
    if rank == 0:
        with socket.create_server(address) as server:
            return [server.accept()[0] for _ in range(world - 1)]
    deadline = time.monotonic() + 20
    while True:
        try:
            return [socket.create_connection(address)]
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def agree(rank: int, peers: list[socket.socket], flag: bool) -> bool:
    """Whether any rank's flag is set, on every rank."""
    if rank == 0:
        flags = [bool(receive(peer)[0]) for peer in peers]
        flag = flag or any(flags)
    for peer in peers:
        peer.sendall(bytes([flag]))
    return flag if rank == 0 else bool(receive(peers[0])[0])


def receive(peer: socket.socket) -> bytes:
    data = peer.recv(1)
    if not data:
        raise ConnectionError("a rank is gone")
    return data


def checkpoint(run: Path, step: int, value: int) -> None:
    part = run / "checkpoints" / f"step-{step}.tmp"
    part.mkdir(parents=True, exist_ok=True)
    (part / "value").write_text(str(value))
    part.rename(part.with_suffix(""))


def train(settings: dict[str, str]) -> int:
    print("starting", flush=True)
    time.sleep(float(settings.get("startup", 0)))
    signal.signal(signal.SIGTERM, request_stop)
    rank, world = int(os.environ["EMO_NODE_RANK"]), int(os.environ["EMO_NODES"])
    run = Path(settings["run"])
    run.mkdir(parents=True, exist_ok=True)
    saved = {int(p.name[5:]): p for p in run.glob("checkpoints/step-*") if p.suffix != ".tmp"}
    step = max(saved, default=0)
    value = int((saved[step] / "value").read_text()) if saved else 1
    peers = meet(rank, world)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    print(f"rank {rank} of {world} begins at step {step}", flush=True)
    print(f"{os.environ['EMO_PROCESSES']} processes, GPUs {devices}", flush=True)
    try:
        while step < int(settings.get("steps", 10)):
            time.sleep(float(settings.get("seconds", 0.1)))
            step += 1
            value = (value * 6364136223846793005 + step) % 2**64
            if rank == world - 1 and str(step) == settings.get("fail_at"):
                print(f"error: NaN loss at step {step}", flush=True)
                for peer in peers:
                    peer.close()
                time.sleep(float(settings.get("late", 0)))
                return int(settings.get("code", 1))
            if rank == world - 1 and str(step) == settings.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            stopped = agree(rank, peers, stop)
            due = stopped or step % int(settings.get("every", 1000)) == 0
            if rank == 0 and due:
                checkpoint(run, step, value)
            if stopped:
                return 75
    except OSError as error:
        print(f"rank {rank}: {error}", flush=True)
        while settings.get("lost") == "hang":
            time.sleep(0.1)
        return int(settings.get("lost", 1))
    if rank == 0:
        (run / "result").write_text(f"{step} {value}")
    return 0


def shards(words: list[str]) -> int:
    """`build` writes part K of N (the first time, part `fail` fails); `merge` wants them all."""
    command, _, *rest = words
    settings = dict(word.split("=", 1) for word in rest)
    parts = Path("parts")
    parts.mkdir(exist_ok=True)
    if command == "build":
        count = int(settings["tasks"])
        (parts / "count").write_text(str(count))
        time.sleep(0.3)
        (parts / settings["task"]).touch()
        return 0
    count = int((parts / "count").read_text())
    missing = [str(k) for k in range(count) if not (parts / str(k)).exists()]
    print(f"missing: {missing}" if missing else "merged", flush=True)
    return 2 if missing else 0


def main() -> int:
    program, *words = sys.argv[1:]
    if program == "train.sh":
        _, _, *rest = words
        return train(dict(word.split("=", 1) for word in rest))
    if program == "emo-shards":
        return shards(words)
    if words[0] == "config":
        wrong = [word for word in words if word.startswith("stepz=")]
        print(*(f"error: {words[1]}: unknown key {word}" for word in wrong), file=sys.stderr)
        return 2 if wrong else 0
    if words[0] == "eval":
        for run in map(Path, words[1:]):
            (run / "metrics.json").write_text(json.dumps({"result": (run / "result").read_text()}))
    else:
        *runs, option, table = words[1:]
        assert option == "--markdown"
        results = [json.loads(Path(run, "metrics.json").read_text())["result"] for run in runs]
        lines = [f"{run} {result}\n" for run, result in zip(runs, results, strict=True)]
        Path(table).write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
