"""What ranks tell each other, and what they say of one that is late or gone: two real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from emo.distributed.collectives import RankError, RankLate, RankLost, lost_ranks_named

ROOT = Path(__file__).parents[3]

RANK = """
import json, os, sys, time
from datetime import timedelta
import numpy as np
import torch.distributed as dist
from emo.distributed.collectives import Collectives, RankError, Votes

folder, rank, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/{end}", rank=rank, world_size=2,
                        timeout=timedelta(seconds=60))
ranks = Collectives(rank, 2, timeout_seconds=60)
votes = ranks.vote(Votes(valid=3 + rank, trace=2**60 + rank, failed=rank == 1, stop=False))
answers = {
    "votes": [votes.valid, votes.skipped, votes.trace, votes.failed, votes.stop],
    "total": ranks.total(0.1 + rank),
    "any": [ranks.any(rank == 1), ranks.any(False)],
    "gather": ranks.gather(np.array([[rank], [10 + rank]])).tolist(),
    "from_main": ranks.from_main({"ä": [rank]}),
    "main_decides": ranks.main_decides(lambda: f"rank {rank}"),
}
try:
    ranks.together(lambda: 1 // rank)
except Exception as error:
    answers["together"] = f"{type(error).__name__}: {error}"
ranks.wait_at_most(2)  # training has begun: from here on a late rank is a hung one
with ranks.waiting_at_most(60):  # but for a save
    if rank == 1 and end == "late":
        time.sleep(3)
    ranks.barrier()
if rank == 1:
    if end == "late":
        time.sleep(4)
    os._exit(0)
try:
    ranks.barrier()
except RankError as error:
    answers["end"] = f"{type(error).__name__}: {error}"
print(json.dumps(answers), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What rank 0 says where rank 1 ends "late" and "lost"."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = {
        (end, rank): subprocess.Popen(
            [sys.executable, "-c", RANK, str(folder), str(rank), end],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for end in ("late", "lost")
        for rank in (0, 1)
    }  # fmt: skip
    said = {key: process.communicate(timeout=120)[0] for key, process in ranks.items()}
    return {end: json.loads(said[end, 0]) for end in ("late", "lost")}


def test_every_rank_learns_the_same(answers: dict[str, dict]) -> None:
    found = answers["late"]
    assert found["votes"] == [7, 0, 2**61 + 1, 1, 0]  # integers: a float would lose the last 1
    assert found["total"] == 0.1 + 1.1
    assert found["any"] == [True, False]
    assert found["gather"] == [[[0], [10]], [[1], [11]]]
    assert found["from_main"] == {"ä": [0]}
    assert found["main_decides"] == "rank 0"
    assert found["together"].startswith("ZeroDivisionError")


def test_a_rank_that_is_late_and_one_that_is_gone_are_told_apart(answers: dict[str, dict]) -> None:
    late, lost = answers["late"]["end"], answers["lost"]["end"]
    assert late.startswith("RankLate: another process did not arrive within runtime.timeout_second")
    assert lost.startswith("RankLost: another process ended without a word")
    for said in (late, lost):
        assert "resume=auto" in said


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (dist.DistBackendError("NCCL error: remote process exited or there was a net"), RankLost),
        (dist.DistStoreError("wait timeout after 600000ms, keys: /ready"), RankLate),
        (dist.DistNetworkError("The client socket has timed out after 300s"), RankLate),
        (RuntimeError("[/gloo/transport/tcp/pair.cc:538] Connection reset by peer"), RankLost),
        (RankLost("named already"), RankLost),
    ],
)
def test_errors_of_every_backend_are_named(error: Exception, kind: type[RankError]) -> None:
    with pytest.raises(kind), lost_ranks_named():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader timed out after 60 seconds"),
        RuntimeError("[/gloo/algorithm.cc:1] op.preamble.length <= op.nbytes. 8 vs 4"),
        dist.DistBackendError("NCCL error: invalid usage"),
        ValueError("gloo: Connection reset"),
    ],
)
def test_what_no_rank_did_stays_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, lost_ranks_named():
        raise error
    assert caught.value is error
