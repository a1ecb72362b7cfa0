"""The default project, untouched, as its user starts it: by python, accelerate launch and torchrun, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.generated import check, rendered
from support.sampled import every_third_day, over_three_days

from paccel.files.tree import write_tree

pytestmark = pytest.mark.slow

QUICK = ["--global-batch-size=64", "--max-steps=60", "--eval-every=20", "--save-every=20", "--log-every=1"]
LAUNCHERS = {
    "python": [],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"],
    "accelerate-cpu": ["accelerate.commands.launch", "--cpu", "--num_processes=2"],
    "torchrun": ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"],
}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launchers") / "my-project"
    write_tree(folder, rendered("image-classification", {}))
    return folder


def command(run_dir: str, launcher: str, *arguments: str) -> list[str]:
    module = ["-m", *LAUNCHERS[launcher]] if LAUNCHERS[launcher] else []
    return [sys.executable, *module, "train.py", f"--run-dir={run_dir}", *QUICK, *arguments]


def train(project: Path, run_dir: str, launcher: str = "python", *arguments: str) -> Path:
    done = subprocess.run(
        command(run_dir, launcher, *arguments),
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return project / run_dir


def metrics(run_dir: Path, key: str) -> list[float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


@pytest.fixture(scope="module")
def straight(project: Path) -> Path:
    return train(project, "straight")


@pytest.mark.parametrize("launcher", over_three_days(["accelerate", "torchrun"]))
def test_two_processes_by_any_launcher_learn_what_one_does(project: Path, straight: Path, launcher: str) -> None:
    run_dir = train(project, launcher, launcher)
    ours, theirs = metrics(run_dir, "train/loss"), metrics(straight, "train/loss")
    assert len(ours) == len(theirs) == 60
    assert ours[:20] == pytest.approx(theirs[:20], rel=1e-5)
    assert json.loads((run_dir / "config.json").read_text())["num_processes"] == 2
    ours, theirs = metrics(run_dir, "eval/accuracy"), metrics(straight, "eval/accuracy")
    assert ours == pytest.approx(theirs, abs=0.02)


@every_third_day(0)
def test_accelerates_cpu_launcher_starts_one_process_and_the_run_says_so(project: Path, straight: Path) -> None:
    done = subprocess.run(
        command("single", "accelerate-cpu"),
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "starts one process, whatever `--num_processes` says" in done.stderr
    assert metrics(project / "single", "train/loss") == metrics(straight, "train/loss")


@every_third_day(1)
def test_killed_in_the_middle_of_an_epoch_and_resumed_it_ends_with_the_same_bytes(
    project: Path, straight: Path
) -> None:
    with subprocess.Popen(
        command("killed", "python"), cwd=project, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        log = project / "killed" / "metrics.jsonl"
        while not log.exists() or len(log.read_bytes().splitlines()) < 33:  # 32 steps and an evaluation
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert json.loads((project / "killed" / "status.json").read_text())["state"] == "running"

    killed = train(project, "killed", "python", "--resume=auto")
    for name in ("final", "best"):
        weights = Path("weights", f"{name}.safetensors")
        assert (killed / weights).read_bytes() == (straight / weights).read_bytes()
    assert metrics(killed, "train/loss") == metrics(straight, "train/loss")


def test_bad_settings_are_one_clear_message(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "train.py", "--epochs=many"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "many" in done.stderr


@every_third_day(2)
def test_the_whole_run_reaches_98_percent_on_held_out_images(project: Path) -> None:
    run_dir = project / "whole"
    check(["train", f"--run-dir={run_dir}"], project, timeout=280)
    out = check(["evaluate", f"--run-dir={run_dir}", "--split=test"], project)
    assert json.loads(out.splitlines()[-1])["accuracy"] >= 0.98
    for name in ("config.json", "curves.png", "metrics.jsonl", "weights/final.safetensors", "weights/best.safetensors"):
        assert (run_dir / name).stat().st_size > 0
    assert json.loads((run_dir / "status.json").read_text())["state"] == "finished"
