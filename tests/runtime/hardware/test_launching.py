"""`main` as a notebook calls it: twice in one process, on two processes, and through accelerate's `debug_launcher`."""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import debug_launcher
from accelerate.utils import gather_object
from safetensors.torch import load_file
from support.together import together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import Checkpoints, Meter, Run

pytestmark = pytest.mark.slow


@dataclass
class Config:
    run_dir: Path
    seed: int = 0


def main(run_dir: str, seed: int) -> nn.Module:
    with Run(Config(Path(run_dir), seed)) as run:
        data = TensorDataset(torch.linspace(-1, 1, 13, dtype=torch.float64)[:, None])
        loader, model, meter = run.loader(data, 4, shuffle=True), nn.Linear(1, 1).double(), Meter(run)
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        for _ in run.epochs(2):
            for step in run.steps(loader):
                for (inputs,) in step:
                    loss = (model(inputs) - inputs.sin()).square().sum()
                    run.backward(loss / step.num_samples)
                    meter.add(loss=loss, count=step.micro_batch_samples)
                optimizer.step()
                optimizer.zero_grad()
        run.log("train", meter.read())
        checkpoints.save_weights("final")
    return model


def twice() -> None:
    of_the_first = main("first", 1)  # kept, as in a notebook, and with it the port of its rendezvous
    main("second", 2)
    assert of_the_first is not None


def debug_launched() -> None:
    multiprocessing.set_start_method("fork", force=True)
    debug_launcher(main, args=("launched", 1), num_processes=2)


def weights(folder: Path, run_dir: str) -> dict[str, torch.Tensor]:
    return load_file(folder / run_dir / "weights" / "final.safetensors")


def test_main_runs_twice_in_one_process_also_on_two_processes(tmp_path: Path) -> None:
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        together(twice, folder, processes=processes)
        assert json.loads((folder / "second" / "status.json").read_text())["state"] == "finished"
        assert json.loads((folder / "second" / "config.json").read_text())["num_processes"] == processes
    for run_dir in ("first", "second"):
        torch.testing.assert_close(weights(tmp_path / "1", run_dir), weights(tmp_path / "2", run_dir))
    assert not torch.equal(weights(tmp_path / "1", "first")["weight"], weights(tmp_path / "1", "second")["weight"])


def test_accelerate_s_debug_launcher_starts_it_on_two_processes(tmp_path: Path) -> None:
    together(debug_launched, tmp_path, processes=1)
    assert json.loads((tmp_path / "launched" / "config.json").read_text())["num_processes"] == 2
    main(str(tmp_path / "alone"), 1)
    torch.testing.assert_close(weights(tmp_path, "launched"), weights(tmp_path, "alone"))


def gather_all(size: int) -> list[Any]:
    """The passage of docs/runtime.md on gathering."""
    with Run(Config(Path("none")), record=False) as run:
        mine = []
        for (inputs,) in run.batches(run.loader(TensorDataset(torch.arange(size)), 4)):
            mine.extend(inputs.tolist())
        return list(gather_object(mine))


def test_lists_of_different_lengths_are_gathered_each_sample_once(tmp_path: Path) -> None:
    for size in (0, 1, 7):
        assert [sorted(found) for found in together(gather_all, tmp_path, size)] == [list(range(size))] * 2
