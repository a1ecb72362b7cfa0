"""Exact resume from what a kill leaves at any write of a whole run, in training, evaluation, saving and pruning.

Each run of the suite resumes from a sample of the cuts that a continued run could tell apart; with `PACCEL_ALL=1` from
every cut.
"""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import sampled
from support.cuts import run_and_kill, run_with_cuts
from support.tiny_train import run_as_process
from support.together import new_process

pytestmark = pytest.mark.slow

ENVIRONMENT = {"FAULT": "", "OMP_NUM_THREADS": "1"}
SETTINGS = ["--data=augmented", "--dropout=0.2", "--accumulate=2", "--epochs=2", "--global-batch-size=16"]
SETTINGS += ["--eval-every=2", "--keep-best=2"]  # 6 steps in 2 epochs: 3 checkpoints, of which the last prunes one
AT_ONCE = 2
LEAST = 240  # seconds


def run_all(jobs: list[tuple[Callable[..., None], list[Any]]], timeout: float) -> list[int]:
    """Run each function in a process, several at a time; all within `timeout` seconds. Returns the exit codes."""
    deadline, waiting, running = time.monotonic() + timeout, [new_process(f, *args) for f, args in jobs], []
    processes = list(waiting)
    try:
        while waiting or running:
            running = [process for process in running if process.is_alive()]
            while waiting and len(running) < AT_ONCE:
                running.append(waiting.pop(0))
                running[-1].start()
            assert time.monotonic() < deadline, f"hung: {len(jobs)} runs took more than {timeout:.0f} seconds"
            time.sleep(0.005)
    finally:
        for process in running:
            process.kill()
    return [process.exitcode for process in processes]


def files_of(run_dir: Path) -> dict[str, bytes]:
    """All files of a run, without those that contain the time and those of the tests."""
    files = {str(p.relative_to(run_dir)): p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    whole, _, torn = files.pop("metrics.jsonl", b"").rpartition(b"\n")
    lines = [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in whole.splitlines()]
    files["metrics"] = repr((lines, torn[:12])).encode()
    return {name: data for name, data in files.items() if not name.startswith(("order-", "config.json", "status.json"))}


@pytest.mark.timeout(0 if sampled.ALL else 300)  # each start of a run has its own limit, and there are hundreds
@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
def test_killed_at_any_write_and_resumed_a_run_ends_bit_for_bit_the_same(tmp_path: Path, background: bool) -> None:
    straight, cuts = tmp_path / "straight", tmp_path / "cuts"
    cuts.mkdir()
    settings = [*SETTINGS, *(["--save-in-background"] if background else [])]
    arguments = [f"--run-dir={straight}", *settings]
    job = (run_with_cuts, [arguments, ENVIRONMENT, tmp_path / "straight-0", straight, cuts, sampled.ALL])
    started = time.monotonic()
    assert run_all([job], timeout=LEAST) == [0], (tmp_path / "straight-0.err").read_text()
    longest = time.monotonic() - started  # a whole run, with a copy at each write: no other takes longer
    expected = files_of(straight)
    assert not [name for name in expected if ".tmp" in name]

    folders = sorted(cuts.iterdir(), key=lambda path: int(path.name))
    assert len(folders) > 40
    if not background:  # a copy has the same files as a kill leaves
        at = [int(folders[len(folders) * part // 5].name) for part in (1, 2, 3, 4)]
        killed = [tmp_path / f"killed-{n}" for n in at]
        codes = run_all(
            [
                (run_and_kill, [[f"--run-dir={folder}", *settings], ENVIRONMENT, folder, n])
                for folder, n in zip(killed, at, strict=True)
            ],
            timeout=LEAST,
        )
        assert codes == [-signal.SIGKILL] * 4
        assert [files_of(folder) for folder in killed] == [files_of(cuts / str(n)) for n in at]

    folders, jobs = sampled.sampled(folders, 16), []
    for number, folder in enumerate(folders):
        workers = ["--num-workers=2"] if number % 10 == 0 else []
        arguments = [f"--run-dir={folder}", *settings, *workers, "--resume=auto"]
        jobs.append((run_as_process, [arguments, ENVIRONMENT, tmp_path / f"resumed-{folder.name}"]))
    codes = run_all(jobs, timeout=max(LEAST, 2 * longest * len(jobs)))  # twice: the machine may get busier
    for folder, code in zip(folders, codes, strict=True):
        assert code == 0, (tmp_path / f"resumed-{folder.name}.err").read_text()
        ours = files_of(folder)
        assert sorted(ours) == sorted(expected), f"cut at point {folder.name}"
        assert [name for name in ours if ours[name] != expected[name]] == [], f"cut at point {folder.name}"
