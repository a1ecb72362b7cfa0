"""The exported files return the same outputs as the model."""

import pytest
from safetensors.torch import load_file
import torch

import export
import train


@pytest.fixture
def run_dir(tmp_path, settings):
    train.main(train.Config(run_dir=tmp_path / "run", max_steps=2, trackers=(), **settings))
    return tmp_path / "run"


def test_every_format_is_written_and_matches_the_model(run_dir):
    out_dir = export.main(export.ExportConfig(run_dir=run_dir))
    assert {path.name for path in out_dir.iterdir()} == {"weights.safetensors", "model.pt2", "model.onnx"}
    best = load_file(run_dir / "weights" / "best.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in load_file(out_dir / "weights.safetensors").items())


# % include "export/test_check.py"
