"""On a GPU, nothing waits for the device between log points: CUDA itself raises where something would."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import EMA, Meter, Run, schedules

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@dataclass
class Config:
    run_dir: Path
    precision: str = "fp32"
    skip_non_finite: int = 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("skip", "workers"), [(0, 0), (3, 0), (0, 2)])
def test_no_step_between_log_points_waits(tmp_path: Path, precision: str, skip: int, workers: int) -> None:
    with Run(Config(tmp_path / "run", precision, skip)) as run:
        data = TensorDataset(torch.randn(512, 4), torch.randn(512, 1))
        loader = run.loader(list(data) if workers else data, 16, shuffle=True, num_workers=workers)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(run.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        model, optimizer = run.prepare(model, optimizer)
        schedule = schedules.cosine(optimizer, loader.total_steps(1), warmup_steps=3)
        ema, meter = EMA(model, decay=0.9), Meter(run)
        try:
            for _ in run.epochs(1):
                for step in run.steps(loader):
                    if step.number == 5:  # after what happens once, such as filling caches
                        torch.cuda.set_sync_debug_mode("error")
                    for inputs, targets in step:
                        loss = ((model(inputs) - targets) ** 2).sum()
                        run.backward(loss / step.num_samples)
                        meter.add(loss=loss, count=step.micro_batch_samples)
                    norm = run.clip_grad_norm(model, 0.5)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                    ema.update()
                    run.stopping()
                    if step.number == 30:
                        torch.cuda.set_sync_debug_mode("default")
                        run.log("train", meter.read(), grad_norm=norm)
        finally:
            torch.cuda.set_sync_debug_mode("default")
