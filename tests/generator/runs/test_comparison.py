"""Comparisons of runs: verdicts and warnings."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from paccel.errors import UsageError
from paccel.runs.comparison import Comparison, compare, comparison_data
from paccel.runs.folder import find_runs
from paccel.runs.scores import choose_metric
from paccel.runs.verdict import Verdict


def experiment(folder: Path, groups: Mapping[float, Sequence[float]], *, first_seed: int = 0, **options: Any) -> None:
    """Write a run for each value of a learning rate and seed, with one score each."""
    for rate, values in groups.items():
        for seed, value in enumerate(values, first_seed):
            write_run(
                folder / f"lr{rate}-s{seed}", {"eval/accuracy": [0.5, value]}, learning_rate=rate, seed=seed, **options
            )


def judged(folder: Path, **options: Any) -> Comparison:
    return compare(**{"runs": find_runs(folder).runs, **options})


def verdict(folder: Path, **options: Any) -> Verdict:
    (found,) = judged(folder, **{"by": ["learning_rate"], **options}).verdicts
    return found


A, B = [0.900, 0.910, 0.905, 0.915], [0.905, 0.914, 0.911, 0.919]


def test_a_difference_in_pairs_is_seen_where_the_groups_overlap(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: B})
    found = verdict(tmp_path)
    assert (found.finding, found.method, found.pairs) == ("better", "paired t", 4)
    assert found.sentence == (
        "`learning_rate=0.2` is better than `learning_rate=0.1` by 0.48 ± 0.15 points (paired over 4 seeds, p = 0.0022)"
    )
    assert found.estimate is not None
    assert (found.estimate.low, found.estimate.high) == pytest.approx((0.00323, 0.00627), abs=1e-5)


def test_without_shared_seeds_the_same_scores_show_nothing(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A})
    experiment(tmp_path, {0.2: B}, first_seed=10)
    found = verdict(tmp_path)
    assert (found.finding, found.method, found.pairs) == ("no difference shown", "Welch t", 0)
    assert found.sentence.startswith(
        "No significant difference between `learning_rate=0.2` and `learning_rate=0.1` with 4 seeds: +0.5 ± 1.1 points"
        " (unpaired, 4 and 4 runs, p = 0.3"
    )
    needed = found.seeds_needed["unpaired"]
    assert needed is not None
    assert f"takes about {needed} seeds" in found.sentence
    assert 20 < needed < 40


def test_a_smaller_loss_is_better_and_told_in_per_cent(tmp_path: Path) -> None:
    for seed in range(4):
        for rate, loss in ((0.1, 2.0), (0.2, 1.9)):
            value = loss + 0.1 * seed + 0.001 * (seed % 2) * (rate == 0.2)
            write_run(tmp_path / f"{rate}-{seed}", {"eval/loss": [value]}, learning_rate=rate, seed=seed)
    found = verdict(tmp_path)
    assert found.finding == "better"
    assert "is better than `learning_rate=0.1` by 0.09950 ± 0.00092 (4.6 %)" in found.sentence
    for spelled in ("0.2", "2e-1", "learning_rate=0.2", "learning-rate=.2", "0.2-3"):
        assert verdict(tmp_path, against=spelled).finding == "worse"


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_are_no_evidence(tmp_path: Path, seeds: int) -> None:
    experiment(tmp_path, {0.1: [0.5, 0.51][:seeds], 0.2: [0.9, 0.92][:seeds]})
    found = verdict(tmp_path)
    assert found.finding == "too few runs"
    assert ("one run each, which is no evidence" if seeds == 1 else "too few for a verdict") in found.sentence
    assert (found.estimate is None) == (seeds == 1)


def test_without_a_direction_nothing_is_called_better(tmp_path: Path) -> None:
    for seed, (x, y) in enumerate(zip(A, B, strict=True)):
        for rate, value in ((0.1, x), (0.2, y)):
            write_run(tmp_path / f"{rate}-{seed}", {"eval/quality": [value]}, learning_rate=rate, seed=seed)
    found = judged(tmp_path, by=["learning_rate"])
    assert [v.finding for v in found.verdicts] == ["higher"]
    assert found.verdicts[0].sentence.startswith("`learning_rate=0.2` is higher than `learning_rate=0.1` by 0.0048 ±")
    assert any("pass `--mode min` or `--mode max`" in caution for caution in found.cautions)
    runs = find_runs(tmp_path).runs
    found = compare(runs, by=["learning_rate"], metric=choose_metric(runs, "quality", "min"))
    assert [v.finding for v in found.verdicts] == ["worse"]
    assert not any("--mode" in caution for caution in found.cautions)


def test_equal_differences_leave_no_spread_to_judge_by(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: [0.5, 0.5, 0.5], 0.2: [0.75, 0.75, 0.75]})
    found = verdict(tmp_path)
    assert found.finding == "too few runs"
    assert "by exactly 25 points each time" in found.sentence


def test_the_same_scores_are_called_so(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: A})
    assert verdict(tmp_path).finding == "identical"


def test_several_comparisons_are_adjusted_for(tmp_path: Path) -> None:
    near = [0.906, 0.909, 0.912, 0.917]
    experiment(tmp_path / "two", {0.1: A, 0.2: near})
    experiment(
        tmp_path / "six", {0.1: A, 0.2: near, 0.3: near[::-1], 0.4: A[::-1], 0.5: [*A[2:], *A[:2]], 0.6: A[1:] + A[:1]}
    )
    alone, among = verdict(tmp_path / "two"), judged(tmp_path / "six", by=["learning_rate"]).verdicts[0]
    assert alone.estimate is not None
    assert among.estimate == alone.estimate
    assert among.p_adjusted == pytest.approx(5 * alone.estimate.p)
    assert "adjusted for 5 comparisons" in among.sentence


def test_runs_of_a_group_that_do_not_count_are_named(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: B})
    write_run(tmp_path / "diverged", {"eval/accuracy": [0.5, math.nan]}, learning_rate=0.2, seed=7)
    write_run(tmp_path / "going", {"eval/accuracy": [0.99]}, learning_rate=0.2, seed=8, state="stopped")
    write_run(tmp_path / "empty", {}, learning_rate=0.2, seed=9)
    write_run(tmp_path / "old", {"eval/accuracy": [0.5, 0.1]}, learning_rate=0.2, seed=3, started=1.0)
    found = judged(tmp_path, by=["learning_rate"])
    assert found.verdicts[0].pairs == 4
    assert found.verdicts[0].finding == "not comparable"
    said = "\n".join(found.cautions)
    assert "diverged: its `eval/accuracy` is not finite at step 20" in said
    assert "judged by the 4 of its runs that did not diverge, which flatters it" in said
    assert "going: it is stopped at step 10" in said
    assert "empty: it has no `eval/accuracy`" in said
    assert "old: the newer `lr0.2-s3` has the same seed" in said
    assert "the same seed, settings and code differ in eval/accuracy (`old`, `lr0.2-s3`: 0.1 and 0.919)" in said


@pytest.mark.parametrize(
    ("diverged", "finding"),
    [((), "better"), ((0.2,), "not comparable"), ((0.1,), "better"), ((0.1, 0.2), "better")],
)
def test_a_group_does_not_win_by_its_runs_that_diverged(
    tmp_path: Path, diverged: tuple[float, ...], finding: str
) -> None:
    experiment(tmp_path, {0.1: A, 0.2: B})
    for rate in diverged:
        status = {"reason": "NonFiniteError: the loss is nan in step 12"}
        write_run(tmp_path / f"failed{rate}", {}, learning_rate=rate, seed=9, state="failed", status=status)
    found = verdict(tmp_path)
    assert found.finding == finding
    assert ("but 20% of the runs of `learning_rate=0.2` diverged and do not count" in found.sentence) == (
        diverged == (0.2,)
    )


def test_the_best_of_more_evaluations_is_no_win(tmp_path: Path) -> None:
    draw = random.Random(5)
    for seed in range(8):
        for rate, often in ((0.1, 40), (0.2, 4)):
            values = [draw.random() for _ in range(often)]
            write_run(tmp_path / f"{rate}-{seed}", {"eval/accuracy": values}, learning_rate=rate, seed=seed)
    assert verdict(tmp_path, use="best").sentence == (
        "No verdict on `learning_rate=0.2`: the best of its 4 evaluations cannot be compared with the best of 40 of `learning_rate=0.1`"
    )
    assert verdict(tmp_path).finding == "no difference shown"


def test_settings_do_not_multiply_seeds(tmp_path: Path) -> None:
    """A seed has the same effect at every other setting: forty runs, but two seeds."""
    for seed, luck in ((0, 0.010), (1, 0.012)):
        for width in range(10):
            for rate, gain in ((0.1, 0.0), (0.2, luck + 0.0001 * width)):
                value = 0.8 + 0.001 * width + gain
                write_run(
                    tmp_path / f"{rate}-{width}-{seed}",
                    {"eval/accuracy": [value]},
                    learning_rate=rate,
                    width=width,
                    seed=seed,
                )
    found = verdict(tmp_path)
    assert (found.pairs, found.units, found.finding) == (20, 2, "too few runs")
    runs = find_runs(tmp_path).runs
    for some in (  # one seed; and two that are not shared
        [run for run in runs if run.settings["seed"] == 0],
        [run for run in runs if (run.settings["learning_rate"] == 0.1) == (run.settings["seed"] == 0)],
    ):
        assert verdict(tmp_path, runs=some).finding == "too few runs"
    assert {v.finding for v in judged(tmp_path, by=["seed"]).verdicts} == {"too few runs"}


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    (run,) = find_runs(write_run(tmp_path / "a", {"eval/loss": [1.0]})).runs
    assert "`a` was given more than once, and counts once" in compare([run, run]).cautions
    write_run(tmp_path / "none/a", {}, learning_rate=1)
    write_run(tmp_path / "none/b", {}, learning_rate=2)
    assert judged(tmp_path / "none").summary == "No verdict: none of these runs has a score"


def test_of_many_comparisons_each_needs_more_seeds(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: A[::-1]})
    alone = verdict(tmp_path)
    experiment(tmp_path, {0.3: [0.9, 0.901, 0.902, 0.9], 0.4: [0.91, 0.901, 0.905, 0.9]})
    among = judged(tmp_path, by=["learning_rate"]).verdicts[0]
    assert among.visible is not None
    assert alone.visible is not None
    assert among.visible > 1.2 * alone.visible


def test_other_evaluation_data_is_not_comparable(tmp_path: Path) -> None:
    for rate, content in ((0.1, "a"), (0.2, "b")):
        data = {"eval": {"1": {"samples": 300, "content": content}}, "train": {"0": {"samples": 900, "content": "t"}}}
        experiment(tmp_path, {rate: A if rate == 0.1 else B}, config={"data": data})
    found = verdict(tmp_path)
    assert found.finding == "not comparable"
    assert (
        found.sentence
        == "No verdict on `learning_rate=0.2`: it was evaluated on different data than `learning_rate=0.1`"
    )


def test_a_split_that_depends_on_the_seed_is_comparable_in_pairs(tmp_path: Path) -> None:
    for rate, values in ((0.1, A), (0.2, B)):
        for seed, value in enumerate(values):
            data = {"eval": {"1": {"samples": 300, "content": str(seed)}}}
            write_run(
                tmp_path / f"{rate}-{seed}",
                {"eval/accuracy": [value]},
                learning_rate=rate,
                seed=seed,
                config={"data": data},
            )
    assert verdict(tmp_path).finding == "better"


def test_what_misleads_is_said(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A}, versions={"python": "3.11", "torch": "2.6.0", "timm": "1.0"}, epochs=2)
    experiment(tmp_path, {0.2: B}, versions={"python": "3.11", "torch": "2.7.0"}, epochs=3, every=20, commit=None)
    said = "\n".join(judged(tmp_path, by=["learning_rate"], use="best").cautions)
    assert "the runs are compared at different steps, 20 to 40: `--step 20` compares them at the same one" in said
    assert "different versions of torch: 2.6.0, 2.7.0" in said
    assert "timm" not in said  # not imported by the others, or not yet
    assert "each run is judged by the best of its 2 evaluations" in said
    assert "the groups differ in `epochs` too" in said
    assert "some runs do not record their evaluation and training data" in said
    train = choose_metric(find_runs(tmp_path).runs, "eval/accuracy")
    assert train is not None
    assert not any("training data, while" in text for text in judged(tmp_path, metric=train).cautions)


def test_runs_are_compared_at_one_step(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A}, every=10)
    experiment(tmp_path, {0.2: B}, every=20, state="running")
    assert verdict(tmp_path).finding == "no scores"
    found = judged(tmp_path, by=["learning_rate"], step=20)
    assert [group.values for group in found.groups] == [A, [0.5] * 4]
    assert not any("different steps" in text for text in found.cautions)
    late = judged(tmp_path, by=["learning_rate"], step=30).groups
    assert [len(group.counted) for group in late] == [0, 4]
    assert "has no `eval/accuracy` at step 30 yet: its last one is at step 20" in str(late[0].members[0].left_out)


def test_final_mean_and_best(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {"eval/accuracy": [0.1, 0.9, 0.6, 0.3]}, seed=0)
    values = {use: judged(tmp_path, use=use, last=2).groups[0].members[0].point for use in ("final", "mean", "best")}
    assert {use: (point.step, point.value) for use, point in values.items() if point} == {
        "final": (40, 0.3),
        "mean": (40, pytest.approx(0.45)),
        "best": (20, 0.9),
    }


def test_without_by_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: B}, run_dir="x")
    found = judged(tmp_path)
    assert [(group.label, len(group.members)) for group in found.groups] == [
        ("learning_rate=0.1", 4),
        ("learning_rate=0.2", 4),
    ]
    assert found.settings == {"learning_rate": [[0.1], [0.2]], "seed": [[0, 1, 2, 3]] * 2}


def test_repeats_of_one_run_stand_side_by_side(tmp_path: Path) -> None:
    for name, last in (("a", 0.9), ("b", 0.9), ("c", 0.8)):
        write_run(tmp_path / name, {"eval/accuracy": [0.5, last]}, seed=1)
    found = judged(tmp_path)
    assert [group.label for group in found.groups] == ["a", "b", "c"]
    assert [verdict.finding for verdict in found.verdicts] == ["identical", "too few runs"]
    assert any(text.endswith("(`a`, `b`, `c`: 0.9 and 0.9 and 0.8): not reproducible") for text in found.cautions)


def test_other_code_is_another_variant(tmp_path: Path) -> None:
    for name, files, values in (
        ("base", {"train.py": "1", "model.py": "1"}, A),
        ("wide", {"train.py": "1", "model.py": "2"}, B),
    ):
        for seed, value in enumerate(values):
            config = {"code": {"files": files}}
            write_run(tmp_path / f"{name}-{seed}", {"eval/accuracy": [value]}, seed=seed, config=config)
    found = judged(tmp_path)
    assert [group.label for group in found.groups] == ["code ccccccccc (base-0)", "code ccccccccc (wide-0)"]
    assert found.code == {"code ccccccccc (wide-0)": ["model.py"]}
    assert found.verdicts[0].finding == "better"


def test_a_grid_is_paired_over_its_other_settings(tmp_path: Path) -> None:
    for epochs, shift in ((1, 0.0), (2, 0.04)):
        for seed in range(2):
            for rate, gain in ((0.1, 0.0), (0.2, 0.01 + 0.001 * seed + shift / 100)):
                value = 0.8 + shift + 0.02 * seed + gain
                name = f"{rate}-{epochs}-{seed}"
                write_run(tmp_path / name, {"eval/accuracy": [value]}, learning_rate=rate, epochs=epochs, seed=seed)
    found = judged(tmp_path, by=["learning-rate"])
    assert (found.verdicts[0].pairs, found.verdicts[0].finding) == (4, "too few runs")  # four pairs, but two seeds
    assert "paired over 2 seeds, 4 pairs" in found.verdicts[0].sentence
    one = judged(tmp_path, by=["learning-rate"], runs=[r for r in find_runs(tmp_path).runs if r.settings["seed"] == 0])
    assert "2 pairs of one seed" in one.verdicts[0].sentence
    assert "within groups, `epochs` differs too" in found.cautions


def test_many_single_runs_are_one_sentence(tmp_path: Path) -> None:
    experiment(tmp_path, {rate: [0.5 + rate] for rate in (0.1, 0.2, 0.3, 0.35, 0.4)})
    found = judged(tmp_path)
    assert found.summary is not None
    assert found.summary.startswith("No verdict on 5 variants with too few runs of each. `lr0.4-s0` scores best")


def test_fields_and_groups_that_are_not_there_are_errors(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: B})
    with pytest.raises(UsageError, match="No run has a field `learningrate`; did you mean `learning_rate`"):
        judged(tmp_path, by=["learningrate"])
    with pytest.raises(UsageError, match=r"No group or run is called `0.3`\. There are learning_rate=0.1"):
        judged(tmp_path, by=["learning_rate"], against="0.3")


def test_json_has_no_word_that_json_lacks(tmp_path: Path) -> None:
    experiment(tmp_path, {0.1: A, 0.2: [math.nan, *B[1:]]})
    write_run(tmp_path / "other", {"train/x": [1.0]}, learning_rate=0.3)
    data = json.loads(json.dumps(comparison_data(judged(tmp_path)), allow_nan=False))
    assert data["metric"] == {"name": "eval/accuracy", "mode": "max", "is_certain": True}
    assert [verdict["finding"] for verdict in data["verdicts"]] == ["not comparable", "no scores"]
    assert data["groups"][1]["runs"][0]["value"] is None


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_of_comparisons_without_a_difference_at_most_one_in_twenty_is_called_one(tmp_path: Path, shared: bool) -> None:
    draw, found = random.Random(1), 0
    for number in range(40):
        folder = tmp_path / str(number)
        experiment(folder, {0.1: [draw.gauss(0.9, 0.01) for _ in range(3)]})
        experiment(folder, {0.2: [draw.gauss(0.9, 0.01) for _ in range(3)]}, first_seed=0 if shared else 5)
        found += verdict(folder).finding in ("better", "worse")
    assert found <= 6  # 2 on average; more than 6 in one of 200 such tests
