"""DeepSpeed beyond training one model once: tied weights, an evaluation, a frozen layer, a second run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import engine_cases
from support.engine_cases import Tied, evaluate, train_frozen, train_tied, two_runs
from support.on_device import WORLD, Config, deepspeed, start

pytestmark = pytest.mark.slow

pytest.importorskip("deepspeed")


@pytest.mark.parametrize("stage", [2, 3])
def test_tied_weights_are_saved_once_and_stay_tied_when_resumed(tmp_path: Path, stage: int) -> None:
    config = Config(tmp_path / "run", max_steps=4)
    start(config, processes=WORLD, environment=deepspeed(tmp_path, stage), does=train_tied)
    names = {"embedding.weight", "head.weight", "middle.weight", "middle.bias"}
    saved = load_file(tmp_path / "run" / "weights" / "final.safetensors")
    assert set(saved) < names
    assert len(saved) == 3
    environment = deepspeed(tmp_path, stage)
    resumed = start(replace(config, resume="auto", max_steps=8), WORLD, environment, does=train_tied)
    assert [(each["start"], each["tied"]) for each in resumed] == [(4, True)] * WORLD
    start(Config(tmp_path / "straight", max_steps=8), WORLD, environment, does=train_tied)
    straight, ours = (load_file(tmp_path / name / "weights" / "final.safetensors") for name in ("straight", "run"))
    assert straight.keys() == ours.keys()
    assert all(torch.equal(straight[name], ours[name]) for name in straight)


@pytest.mark.parametrize("stage", [0, 3])
def test_an_evaluation_without_an_optimizer_is_that_of_plain_pytorch(tmp_path: Path, stage: int) -> None:
    config = Config(tmp_path / "run", max_steps=2)
    start(config)
    (plain,) = start(config, does=evaluate)
    found = start(config, WORLD, deepspeed(tmp_path, stage), does=evaluate)
    assert all(each["output"] == pytest.approx(plain["output"], rel=1e-6) for each in found)


def test_a_second_run_of_a_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="DeepSpeed works in one run of a process"):
        start(Config(tmp_path / "run", max_steps=2), WORLD, deepspeed(tmp_path, 2), does=two_runs)


@pytest.mark.parametrize("stage", [2, 3])
def test_frozen_weights_are_saved_and_stay_when_resumed(tmp_path: Path, stage: int) -> None:
    config, environment = Config(tmp_path / "run", max_steps=2), deepspeed(tmp_path, stage)
    start(config, WORLD, environment, does=train_frozen)
    resumed = start(replace(config, resume="auto", max_steps=4), WORLD, environment, does=train_frozen)
    assert [each["start"] for each in resumed] == [2] * WORLD
    torch.manual_seed(0)
    at_first, saved = Tied().state_dict(), load_file(tmp_path / "run" / "weights" / "final.safetensors")
    assert {name for name in saved if torch.equal(saved[name], at_first[name])} == {"middle.weight"}
    refused = "no access to the shards of frozen parameters, which an EMA needs" if stage == 3 else ""
    assert all(refused in each["error"] and bool(refused) == bool(each["error"]) for each in resumed)


@pytest.mark.timeout(900)
def test_a_worker_that_is_killed_is_replaced_and_the_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    environment = deepspeed(tmp_path, 3)
    start(Config(tmp_path / "straight", dropout=0.0), WORLD, environment)
    launcher = ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={WORLD}"]
    script = str(Path(engine_cases.__file__).with_name("restarted_engine.py"))
    command = [sys.executable, "-m", *launcher, "--max-restarts=1", script, str(tmp_path / "run")]
    variables = os.environ | environment | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(tmp_path / f"run-{rank}.txt").read_text() for rank in range(WORLD)] == ["3"] * WORLD  # where it was saved
    ours, theirs = (load_file(tmp_path / name / "weights" / "final.safetensors") for name in ("run", "straight"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
