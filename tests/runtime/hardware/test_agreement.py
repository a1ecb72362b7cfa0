"""Two processes stop, fail and skip together, whichever of them gets a signal or an error, and when."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.agreeing import Case, together_all
from support.sampled import every_third_day

pytestmark = pytest.mark.slow


def status(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "status.json").read_text())


def outcome(run_dir: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The weights, the last checkpoints without their manifests, and the logged lines."""
    paths = [*(run_dir / "weights").rglob("*"), *(run_dir / "checkpoints").rglob("*")]
    files = {str(p.relative_to(run_dir)): p.read_bytes() for p in paths if p.is_file() and p.suffix != ".json"}
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return files, [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


BACKGROUND = {"save_in_background": True}


@every_third_day(2)
def test_what_asks_one_of_two_to_stop_stops_both_at_one_step_and_resumed_they_end_as_if_nothing_was(
    tmp_path: Path,
) -> None:
    straight = Case("straight")
    asked = {
        "SIGINT": [Case("sigint", fault="SIGINT:5:1")],
        "SIGUSR1": [Case("sigusr1", fault="SIGUSR1:5:0")],
        "SIGTERM": [
            Case("sigterm", fault="SIGTERM:5:1"),
            Case("evaluation-0", fault="SIGTERM@eval:4:0"),
            Case("evaluation-1", fault="SIGTERM@eval:4:1"),
            Case("save-0", signals_in_save=0),
            Case("save-1", signals_in_save=1),
            Case("background-0", signals_in_save=0, settings=BACKGROUND),
            Case("background-1", signals_in_save=1, settings=BACKGROUND),
        ],
        "time limit": [Case("limit", limits=(None, 0.01)), Case("limit-0", limits=(0.01, None))],
    }
    cases = [straight, *(case for group in asked.values() for case in group)]
    ends = together_all(cases, tmp_path)
    for reason, group in asked.items():
        for case in group:
            first, second = ends[case.name]
            assert (first.code, second.code) == (75, 75), case
            assert first.last_step == second.last_step, case
            assert first.stopped == second.stopped == reason, case
            assert outcome(tmp_path / case.name) == outcome(tmp_path / "straight"), case


@every_third_day(0)
def test_a_disk_that_fails_the_writing_process_ends_both_by_name_and_the_last_good_checkpoint_stands(
    tmp_path: Path,
) -> None:
    quiet = {"log_every": None}  # so that only saves write to the disk
    words = {"ENOSPC": "No space left on device", "EROFS": "Read-only file system"}
    cases = [
        Case(f"{kind}-{how}", fails_in_save=kind, settings=settings)
        for kind in words
        for how, settings in (("at-once", quiet), ("background", quiet | BACKGROUND))
    ]
    cases += [Case(f"{kind}-log", fails_in_log=kind, settings=quiet | {"log_every": 5}) for kind in words]
    straight = [Case("straight", settings=quiet), Case("straight-log", settings=cases[-1].settings)]
    ends = together_all([*straight, *cases], tmp_path)
    for case in cases:
        main, other = ends[case.name]
        assert words[case.fails_in_save or case.fails_in_log or ""] in main.error, case
        assert main.error.startswith("OSError"), case
        assert other.error == f"AgreementError: The main process failed: {main.error}", case
        assert main.last_step == other.last_step, case
        expected = "straight-log" if case.fails_in_log else "straight"
        assert outcome(tmp_path / case.name) == outcome(tmp_path / expected), case  # resumed from step 2, or 4


def test_a_loss_or_gradient_that_is_not_finite_on_one_ends_both_and_names_step_and_samples(
    order, tmp_path: Path
) -> None:
    cases = [
        Case("loss", fault="nan:5:1"),
        Case("gradient", fault="gradient:5:0"),
        Case("loss-alone", fault="inf@loss:5:1"),
        Case("too-often", fault="gradient:3,4,5:1", settings={"skip_non_finite": 2}),
        Case("loss-alone-too-often", fault="inf@loss:3,4,5:0", settings={"skip_non_finite": 2}),
    ]
    ends = together_all(cases, tmp_path, then_resume=False)
    samples = ", ".join(map(str, order(tmp_path / "loss")[5]))
    for case in cases:
        alone, too_often = "alone" in case.name, case.name.endswith("too-often")
        what = "The training loss became inf in step 5" if alone else "The gradient norm of step 5 is nan"
        row = f", as {'at the 2 log points' if alone else 'in the 2 steps'} before it" if too_often else ""
        expected = f"NonFiniteError: {what}{row}; its samples are {samples}"
        assert [end.error for end in ends[case.name]] == [expected] * 2, case
        assert [end.last_step for end in ends[case.name]] == [5, 5]
        assert status(tmp_path / case.name)["reason"].endswith(expected), case
        newest = max(path.name for path in (tmp_path / case.name / "checkpoints").iterdir())
        assert newest == "step-4", case


def test_updates_that_may_be_skipped_are_skipped_on_both_and_counted(metrics, tmp_path: Path) -> None:
    settings = {"skip_non_finite": 2, "save_every": 1, "keep_last": 99}
    cases = [Case("loss", "nan:5,6:1", settings=settings), Case("gradient", "gradient:5,6:0", settings=settings)]
    ends = together_all(cases, tmp_path)
    for case in cases:
        assert [(end.code, end.error, end.last_step) for end in ends[case.name]] == [(0, "", 12)] * 2
        counted = {line["step"]: line.get("train/skipped_updates") for line in metrics(tmp_path / case.name)}
        assert {step: count for step, count in counted.items() if count} == {5: 1, 6: 1}
        weights = [
            (tmp_path / case.name / "checkpoints" / f"step-{n}" / "model.safetensors").read_bytes()
            for n in (4, 5, 6, 7)
        ]
        assert weights[0] == weights[1] == weights[2] != weights[3]
