"""The throughput that is logged, against a computation by hand."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from paccel.runtime import Checkpoints, Run
from paccel.runtime.record import throughput
from paccel.runtime.record.peak_flops import known_peak_flops
from paccel.runtime.record.throughput import Throughput

CPU = torch.device("cpu")


def test_speeds_are_counts_divided_by_the_time_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(throughput, "perf_counter", lambda: now)
    measured = Throughput(CPU, num_processes=2)
    measured.measure_flops(3e9, 5e11, "no", lambda text: pytest.fail(text))
    measured.samples, measured.data_seconds, measured.other_seconds = 640, 0.5, 2.0
    for tokens in (1000, 500):
        measured.add("tokens", torch.tensor(tokens, dtype=torch.float64))
    now = 106.0  # 2 of these 6 seconds were for an evaluation
    times = measured.read()
    assert times.pop("peak_memory_gib") > 0.01
    assert times == {
        "samples_per_second": 640 / 4,
        "tokens_per_second": 1500 / 4,
        "data_wait_share": 0.5 / 4,
        "mfu": pytest.approx(160 * 3e9 / (2 * 5e11)),
    }
    measured.samples, now = 100, 110.0  # since then: 100 samples in 4 seconds, no tokens, no waiting
    assert measured.read() == pytest.approx(
        {"samples_per_second": 25, "data_wait_share": 0, "mfu": 25 * 3e9 / 1e12, "peak_memory_gib": 0}, abs=64
    )


def test_the_peak_is_that_of_the_device_in_the_precision_of_the_run() -> None:
    assert known_peak_flops("NVIDIA A100-SXM4-80GB", "bf16", tf32=True) == 312e12
    assert known_peak_flops("NVIDIA A100-SXM4-80GB", "no", tf32=True) == 156e12
    assert known_peak_flops("NVIDIA A100-SXM4-80GB", "no", tf32=False) == 19.5e12
    assert known_peak_flops("NVIDIA H100 80GB HBM3", "fp16", tf32=True) == 989e12
    assert known_peak_flops("NVIDIA H100 PCIe", "fp16", tf32=True) == 756e12
    assert known_peak_flops("Tesla T4", "no", tf32=True) == 8.1e12  # it has no TF32
    assert known_peak_flops("NVIDIA L4", "bf16", tf32=True) == 121e12
    assert known_peak_flops("Tesla V100-PCIE-16GB", "fp16", tf32=True) == 112e12
    assert known_peak_flops("Tesla V100-SXM2-32GB", "fp16", tf32=True) == 125e12
    for relative in ("RTX 4090 Laptop GPU", "RTX 4090 D", "RTX 3090 Ti", "H100 80GB HBM3 MIG 1g.10gb", "A10G"):
        assert known_peak_flops(f"NVIDIA GeForce {relative}", "bf16", tf32=True) is None
    assert known_peak_flops("Radeon of tomorrow", "bf16", tf32=True) is None


@dataclass
class Config:
    run_dir: Path


class Slow(Dataset):
    """Takes 10 ms for each sample."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return index


def test_waiting_for_data_is_measured_and_evaluations_and_saves_do_not_count_as_training(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        measured, model = run.reporter.throughput, torch.nn.Linear(1, 1)
        for _ in run.epochs(1):
            for step in run.steps(run.loader(Slow(), 2)):
                list(step)
        assert measured.data_seconds > 0.04
        with run.evaluating(model):
            time.sleep(0.02)
        assert measured.other_seconds > 0.02
        before = measured.other_seconds
        Checkpoints(run, model=model).save()
        assert measured.other_seconds > before
        run.log("train", loss=1.0)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["time/data_wait_share"] > 0.1


def test_a_run_logs_them_and_says_once_that_no_peak_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run(Config(tmp_path / "run")) as run:
        loader = run.loader(TensorDataset(torch.arange(12)), 4)
        for _ in run.epochs(2):
            for step in run.steps(loader, flops_per_sample=1e6):
                step.total(lambda batch: len(batch[0]))
                for _ in step:
                    time.sleep(0.01)
                run.log("train", loss=1.0)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["time/tokens_per_second"] < 400 and "time/mfu" not in line for line in lines)
    assert all(line["time/tokens_per_second"] == line["time/samples_per_second"] for line in lines)
    assert capsys.readouterr().out.count("the peak FLOPS of this device are unknown") == 1
