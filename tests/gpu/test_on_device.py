"""What only a GPU shows: each test runs on a GPU if there is one, otherwise on the CPU as far as it can stand in.

pytest tests/gpu                  on a machine with one GPU; two or more add NCCL and shards
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.on_device import CUDA, FSDP2, GPUS, WORLD, Config, Noisy, deepspeed, start
from support.sampled import every_third_day, over_three_days

from paccel.runtime import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def final_state(run_dir: Path) -> dict[str, bytes]:
    """The bytes of the weights and of all in the last checkpoint but its manifest."""
    newest = max((run_dir / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    files = [*(run_dir / "weights").iterdir(), *(p for p in newest.iterdir() if p.name != "manifest.json")]
    return {path.name: path.read_bytes() for path in files}


def logged(run_dir: Path, times: bool = False, section: str = "") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if any(key.startswith(section) for key in line)]
    return [{key: value for key, value in line.items() if times or not key.startswith("time/")} for line in lines]


def killed_and_resumed(config: Config, **how: Any) -> list[dict[str, Any]]:
    """Train without a break, and killed in step 5 and resumed: both must end the same. Returns what the last start returned."""
    straight = replace(config, run_dir=config.run_dir / "straight")
    interrupted = replace(config, run_dir=config.run_dir / "interrupted")
    start(straight, **how)
    start(interrupted, kill_at=5, **how)
    found = start(replace(interrupted, resume="auto"), **how)
    assert [each["start"] for each in found] == [3] * len(found)
    assert final_state(interrupted.run_dir) == final_state(straight.run_dir)
    assert logged(interrupted.run_dir) == logged(straight.run_dir)
    return found


@pytest.mark.parametrize("precision", over_three_days(["fp32", "bf16"]))
def test_killed_and_resumed_a_deterministic_run_ends_bit_for_bit_the_same(tmp_path: Path, precision: str) -> None:
    (found,) = killed_and_resumed(Config(tmp_path, precision, num_workers=2, accumulate=2))
    assert found["device"].startswith("cuda" if CUDA else "cpu")


def test_a_loss_scaler_comes_back_with_its_scale(tmp_path: Path) -> None:
    precision = "fp16" if CUDA else "fp32"
    config = Config(tmp_path, precision, overflow_at=2, clip_value=0.1, accumulate=2)
    (found,) = killed_and_resumed(config, environment={"IN_PLACE_OF_A_GPU": "scaler"})
    first = 2.0**15  # half of where it begins, as step 2 has overflowed
    assert {step: scale for step, scale in found["scales"].items() if int(step) < 6} == {"4": first, "5": first}
    assert logged(tmp_path / "straight")[0]["train/skipped_updates"] == 1


@every_third_day(0)
def test_a_compiled_model_keeps_the_names_of_its_weights_and_is_resumed(tmp_path: Path) -> None:
    (found,) = killed_and_resumed(Config(tmp_path, compile=True))
    names = ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert found["names"] == names
    assert sorted(load_file(tmp_path / "straight" / "weights" / "final.safetensors")) == sorted(names)


def test_a_fused_optimizer_skips_an_update_that_is_not_finite_on_the_device(tmp_path: Path) -> None:
    (found,) = start(Config(tmp_path / "run", skip_non_finite=1, overflow_at=4))
    assert found["unchanged"] == [4]
    assert [line.get("train/skipped_updates") for line in logged(tmp_path / "run", section="train/")] == [
        None,
        1,
        None,
        None,
    ]


def test_memory_and_the_share_of_the_peak_are_logged(tmp_path: Path) -> None:
    (found,) = start(Config(tmp_path / "run"))
    for line in logged(tmp_path / "run", times=True, section="train/"):
        assert line["time/mfu"] == pytest.approx(line["time/samples_per_second"] * 2.6e3 / 1e12, rel=0.01, abs=1e-6)
        assert 0 < line["time/peak_memory_gib"] <= (found["peak_gib"] or 1e3) + 1e-6


def final(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "weights" / "final.safetensors")


@pytest.mark.skipif(CUDA and GPUS < 2, reason="needs two GPUs: NCCL wants one for each process")
def test_two_processes_train_as_one_does_and_are_resumed(tmp_path: Path) -> None:
    start(Config(tmp_path / "one", dropout=0.0))
    found = killed_and_resumed(Config(tmp_path / "two", dropout=0.0), processes=2)
    assert len({each["device"] for each in found}) == (2 if CUDA else 1)
    torch.testing.assert_close(final(tmp_path / "two" / "straight"), final(tmp_path / "one"), rtol=0, atol=1e-5)


def test_sync_batch_norm_has_the_statistics_of_the_whole_batch(tmp_path: Path) -> None:
    processes = 2 if GPUS >= 2 else 1  # PyTorch has it for GPUs only
    start(Config(tmp_path / "one", dropout=0.0, sync_norm=True))
    start(Config(tmp_path / "all", dropout=0.0, sync_norm=True), processes=processes)
    torch.testing.assert_close(final(tmp_path / "all"), final(tmp_path / "one"), rtol=0, atol=1e-5)


NEARLY = {"fp32": 1e-5, "bf16": 2e-2}  # how far weights may be from those of plain PyTorch in that precision


@pytest.mark.parametrize("precision", over_three_days(NEARLY, first=1))
def test_accelerate_s_fsdp2_saves_whole_weights_and_is_resumed(tmp_path: Path, precision: str) -> None:
    start(Config(tmp_path / "whole", precision, dropout=0.0, accumulate=2))
    config = Config(tmp_path / "shards", precision, dropout=0.0, accumulate=2, compile=precision == "fp32")
    found = killed_and_resumed(config, processes=WORLD, environment=FSDP2 | {"IN_PLACE_OF_A_GPU": "fsdp"})
    assert all(all(each["sharded"]) for each in found)
    shards, whole = final(tmp_path / "shards" / "straight"), final(tmp_path / "whole")
    torch.testing.assert_close(shards, whole, rtol=0, atol=NEARLY[precision])


@pytest.mark.parametrize(("stage", "precision"), [(0, "bf16"), (1, "fp32"), (2, "bf16"), (3, "fp32"), (3, "bf16")])
def test_deepspeed_trains_as_plain_pytorch_does_and_is_resumed(tmp_path: Path, stage: int, precision: str) -> None:
    pytest.importorskip("deepspeed")
    start(Config(tmp_path / "plain", precision, dropout=0.0, accumulate=2))
    config = Config(tmp_path / "engine", precision, dropout=0.0, accumulate=2)
    found = killed_and_resumed(config, processes=WORLD, environment=deepspeed(tmp_path, stage))
    assert all(all(each["sharded"]) == (stage == 3) for each in found)
    engine, plain = final(tmp_path / "engine" / "straight"), final(tmp_path / "plain")
    torch.testing.assert_close(engine, plain, rtol=0, atol=NEARLY[precision])
    for ours, theirs in zip(logged(tmp_path / "engine" / "straight"), logged(tmp_path / "plain"), strict=True):
        assert ours == pytest.approx(theirs, rel=10 * NEARLY[precision], abs=10 * NEARLY[precision])


def test_shards_of_deepspeed_go_on_in_another_stage_and_without_deepspeed(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    config = Config(tmp_path / "run", dropout=0.0)
    start(replace(config, run_dir=tmp_path / "plain"))
    start(config, kill_at=4, processes=WORLD, environment=deepspeed(tmp_path, 3))
    resumed = replace(config, resume="auto", max_steps=6)
    assert start(resumed, processes=WORLD, environment=deepspeed(tmp_path, 1))[0]["start"] == 3
    (found,) = start(replace(resumed, max_steps=8))
    assert found["start"] == 6
    torch.testing.assert_close(final(tmp_path / "run"), final(tmp_path / "plain"), rtol=0, atol=NEARLY["fp32"])


@pytest.mark.skipif(not CUDA, reason="needs a GPU: only its memory is copied from pinned pages")
def test_what_workers_fetch_is_pinned(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        loader = run.loader(Noisy(), 8, num_workers=2)
        loader._deliver = lambda batch: batch
        (inputs, targets), count = next(loader.fetch(loader.training_parts(1, 0, 1)))
    assert count == 8
    assert inputs.is_pinned()
    assert targets.is_pinned()
