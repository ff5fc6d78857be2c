"""Which segments of an utterance count."""

import torch

from emo.models.audio.config import DnnElmConfig
from emo.models.audio.dnn_elm import DnnElm
from shards.extract.features.lowlevel import ENERGY, WIDTH


def mask_of(lengths, frames):
    return torch.arange(frames)[None] < torch.tensor(lengths)[:, None]


def test_the_loudest_tenth_of_the_segments():
    model = DnnElm(DnnElmConfig(kind="dnn_elm", hidden=8), 3, WIDTH)
    x = torch.randn(2, 60, WIDTH)
    x[..., ENERGY] = 0.0
    x[0, 30:42, ENERGY] = 5.0  # in full by the segments that begin from frame 17 to 30
    mask = mask_of([60, 10], 60)
    segments, chosen = model.loudest(x * mask[..., None], mask)
    assert chosen.tolist() == [[True] * 4, [True] + [False] * 3]  # of 36 segments, and of one
    starts = [
        next(
            start
            for start in range(36)
            if torch.equal(segments[0, k].reshape(WIDTH, 25).T, x[0, start : start + 25])
            or torch.equal(segments[0, k].reshape(25, WIDTH), x[0, start : start + 25])
        )
        for k in range(4)
    ]
    assert starts == [17, 18, 19, 20]
    assert (segments[1, 0] != 0).sum() <= 10 * WIDTH
