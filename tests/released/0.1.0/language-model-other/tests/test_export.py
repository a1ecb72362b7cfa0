"""What is exported gives the model's outputs, without the project's code."""

import pytest
from safetensors.torch import load_file
import torch

import export
import train


@pytest.fixture
def run_dir(tmp_path, settings):
    train.main(train.Config(run_dir=tmp_path / "run", max_steps=2, trackers=(), **settings))
    return tmp_path / "run"


def test_every_format_is_written_and_gives_the_models_outputs(run_dir):
    out_dir = export.main(export.ExportConfig(run_dir=run_dir))
    assert {path.name for path in out_dir.iterdir()} == {"weights.safetensors", "model.pt2", "model.onnx"}
    kept = load_file(run_dir / "weights" / "best.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in load_file(out_dir / "weights.safetensors").items())


def test_other_outputs_than_the_models_are_an_error():
    with pytest.raises(ValueError, match="gives other outputs than the model"):
        export.check("model.onnx", [torch.zeros(3)], torch.ones(3), tolerance=1e-4)
    with pytest.raises(ValueError, match=r"their shape is \(2,\), not \(3,\)"):
        export.check("model.onnx", [torch.ones(2)], torch.ones(3), tolerance=1e-4)
