"""Branches as ONNX files give what torch gives, at any batch and length."""

import numpy as np
import torch

from emo.__main__ import main
from emo.models.model import EmotionModel


def test_branches_of_a_fusion_run_without_torch(trained_runs, tmp_path, capsys):
    import onnxruntime as runtime

    out = tmp_path / "out"
    assert main(["export", str(trained_runs["fusion"]), str(out), "--onnx"]) == 0
    assert "onnx/text.onnx differs from torch by at most" in capsys.readouterr().out
    model = EmotionModel.from_pretrained(out)
    rng = np.random.default_rng(1)
    given = {
        "audio": rng.standard_normal((4, 61, 16)).astype(np.float32),
        "text": rng.integers(0, 50, (4, 7)),
    }
    for name, values in given.items():
        mask = np.ones(values.shape[:2], bool)
        mask[1:, 4:] = False
        session = runtime.InferenceSession(out / "onnx" / f"{name}.onnx")
        scores, vector = session.run(None, {"values": values, "mask": mask})
        with torch.no_grad():
            ours = model.branch(name)(torch.from_numpy(values), torch.from_numpy(mask))
        assert np.allclose(scores, ours.logits_BC, atol=1e-4)
        assert np.allclose(vector, ours.vector_BD, atol=1e-4)
