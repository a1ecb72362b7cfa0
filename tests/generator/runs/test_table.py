"""The table of runs: selected, sorted, and compared with one of them."""

import json
import math
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from support.run_folders import STARTED, write_run

from paccel.errors import UsageError
from paccel.runs import table
from paccel.runs.fields import ABSENT
from paccel.runs.folder import RunFolder, find_runs
from paccel.runs.scores import Metric, best_of, choose_metric, metric_of


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    write_run(
        tmp_path / "base", {"eval/loss": [1.0, 0.7, 0.9]}, learning_rate=1e-3, ema=False, model=None, started=STARTED
    )
    write_run(
        tmp_path / "wide",
        {"eval/loss": [1.0, 0.5], "eval/f1": [0.2, 0.4]},
        learning_rate=0.1,
        ema=True,
        model="vit",
        widths=[1, 2],
        started=STARTED + 9,
        state="failed",
    )
    write_run(tmp_path / "new", {}, learning_rate=1, started=STARTED + 20, commit=None)
    return find_runs(tmp_path).runs


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["learning_rate=0.001"], ["base"]),
        (["learning_rate=1e-3"], ["base"]),
        (["learning-rate >= 0.1"], ["new", "wide"]),
        (["learning_rate>0.01", "learning_rate<0.5"], ["wide"]),
        (["learning_rate=1.0"], ["new"]),
        (["ema=True"], ["wide"]),
        (["ema!=true"], ["base", "new"]),
        (["model=none"], ["base"]),
        (["model~VI"], ["wide"]),
        (["model!=vit"], ["base", "new"]),
        (["widths=[1, 2]"], ["wide"]),
        (["state=failed"], ["wide"]),
        (["step>=30"], ["base"]),
        (["versions.torch=2.6.0"], ["base", "new", "wide"]),
        (["eval/loss<0.6"], ["wide"]),
        (["loss<0.75"], ["base", "wide"]),
        (["f1>0.3"], ["wide"]),
        (["name~e"], ["base", "new", "wide"]),
        (["commit~cccc"], ["base", "wide"]),
        (["learning_rate>x"], []),
        (["model='vit'"], ["wide"]),
        (['model="vit"'], ["wide"]),
        (["widths=1,2"], ["wide"]),
        (["widths=(1,2)"], ["wide"]),
        (["learning_rate=5", "state=failed"], []),
    ],
)
def test_conditions(runs: list[RunFolder], conditions: list[str], names: list[str]) -> None:
    assert sorted(run.name for run in table.select(runs, conditions)) == names


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("learning_rate", "`learning_rate` is not a condition: write `FIELD=VALUE`"),
        ("=3", "`=3` is not a condition"),
        ("", "`` is not a condition"),
        ("learningrate=3", "No run has a field `learningrate`; did you mean `learning_rate`"),
        ("step>", "`step>` is not a condition"),
        ("eval/los=3", "No run has a field `eval/los`; did you mean `eval/loss`"),
    ],
)
def test_a_condition_that_cannot_be_met_is_an_error(runs: list[RunFolder], condition: str, said: str) -> None:
    for conditions in ([condition], ["learning_rate=77", condition]):  # also where no run is left
        with pytest.raises(UsageError) as error:
            table.select(runs, conditions)
        assert said in str(error.value)


def test_numbers_beyond_all_floats_and_without_a_value_are_compared_and_are_valid_json(tmp_path: Path) -> None:
    recorded = {"score": "loss", "mode": "min", "value": math.nan, "step": 7}
    write_run(tmp_path / "huge", size=10**400, best=recorded, status={"started": math.inf, "step": 10**40})
    write_run(tmp_path / "small", size=1, inner={"list": [math.nan, 1]})
    write_run(tmp_path / "nan", size=math.nan)
    runs = find_runs(tmp_path).runs
    assert [run.name for run in table.select(runs, ["size>1e300"])] == ["huge"]
    assert [run.name for run in table.select(runs, [f"size={10**400}"])] == ["huge"]
    assert [run.name for run in table.select(runs, ["size=nan"])] == ["nan"]
    assert [run.name for run in table.sort(runs, "size")] == ["small", "huge", "nan"]
    metric = choose_metric(runs)
    data = table.data_of(table.lines(runs, metric, runs[0]), metric, runs[0], [])
    found = {run["name"]: run for run in json.loads(json.dumps(data, allow_nan=False))["runs"]}
    assert found["huge"]["best"] == {"value": 0.5, "step": 30}  # of its metrics, as the recorded one is none
    assert found["small"]["settings"]["inner"] == {"list": [None, 1]}


@pytest.mark.parametrize(
    ("by", "reverse", "names"),
    [
        (None, False, ["new", "wide", "base"]),
        (None, True, ["base", "wide", "new"]),
        ("learning_rate", False, ["base", "wide", "new"]),
        ("learning_rate", True, ["new", "wide", "base"]),
        ("eval/loss", False, ["wide", "base", "new"]),
        ("eval/loss", True, ["base", "wide", "new"]),
        ("f1", False, ["wide", "new", "base"]),
        ("model", False, ["wide", "new", "base"]),
        ("state", False, [*["wide", "new", "base"][:1], "new", "base"]),
    ],
)
def test_orders(runs: list[RunFolder], by: str | None, reverse: bool, names: list[str]) -> None:
    assert [run.name for run in table.sort(runs, by, reverse)] == names


def test_settings_that_differ(runs: list[RunFolder]) -> None:
    base, new, wide = runs
    assert table.differences(wide, base) == {"learning_rate": 0.1, "ema": True, "model": "vit", "widths": [1, 2]}
    assert table.differences(new, base) == {"learning_rate": 1, "ema": ABSENT, "model": ABSENT}
    assert table.differences(base, base) == {}


def test_the_best_of_a_run(tmp_path: Path) -> None:
    loss = {"eval/loss": [1.0, 0.7, float("nan"), 0.7, 0.9]}
    (run,) = find_runs(write_run(tmp_path / "a", loss)).runs
    metric = choose_metric([run])
    assert metric == Metric("eval/loss", "min")
    assert best_of(run, metric) == ((40, 0.7, 6.0), True)  # of equal ones, the later
    recorded = {"score": "loss", "mode": "max", "value": 3.5, "step": 7}
    (run,) = find_runs(write_run(tmp_path / "b", loss, best=recorded)).runs
    metric = choose_metric([run])
    assert metric == Metric("eval/loss", "max")
    assert best_of(run, metric)[0] == (7, 3.5, pytest.approx(float("nan"), nan_ok=True))


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("min", "loss dice_loss rmse nll brier_score false_positive_rate top5_error bits_per_byte cross_entropy FID"),
        ("max", "accuracy mAP50 meanIoU F1-macro r2 neg_mean_squared_error log_likelihood AUROC cityscapes/mean_iou"),
        (None, "score temperature learning_rate entropy num_tokens"),
    ],
)
def test_a_name_says_whether_smaller_is_better_or_it_is_not_certain(
    mode: Literal["min", "max"] | None, names: str
) -> None:
    for name in names.split():
        assert metric_of(f"eval/{name}") == Metric(f"eval/{name}", mode or "max", mode is not None), name


def test_times_are_better_small_and_speeds_large() -> None:
    names = ("time/seconds", "time/seconds_per_step", "time/tokens_per_second")
    assert [metric_of(name) for name in names] == [
        (names[0], "min", True),
        (names[1], "min", True),
        (names[2], "max", True),
    ]


@pytest.mark.parametrize(
    ("name", "modes", "found"),
    [
        ("score", ["min"], ("min", True)),
        ("neg_x_loss", ["max"], ("max", True)),  # the runs know better than the name
        ("accuracy", ["min"], ("min", False)),  # `mode` was forgotten
        ("accuracy", ["max", "min"], ("max", False)),  # the runs contradict each other
        ("score", ["max", "min"], ("max", False)),
    ],
)
def test_the_direction_that_runs_have_recorded_counts_unless_it_is_contradicted(
    tmp_path: Path, name: str, modes: list[str], found: tuple[str, bool]
) -> None:
    for mode in modes:
        write_run(
            tmp_path / mode, {f"eval/{name}": [0.5]}, best={"score": name, "mode": mode, "value": 0.5, "step": 10}
        )
    metric = choose_metric(find_runs(tmp_path).runs)
    assert metric is not None
    assert (metric.name, metric[1:]) == (f"eval/{name}", found)
    assert choose_metric(find_runs(tmp_path).runs, mode="max") == Metric(f"eval/{name}", "max")


def test_a_score_that_no_run_has_is_an_error(runs: list[RunFolder]) -> None:
    with pytest.raises(UsageError, match=r"No run has a score `eval/acuracy`\. There are eval/loss, eval/f1"):
        choose_metric(runs, "eval/acuracy")
    assert choose_metric(runs, "f1") == Metric("eval/f1", "max")


def test_a_score_of_one_run_among_many_is_found(tmp_path: Path) -> None:
    for number in range(40):
        write_run(tmp_path / f"{number:02}", {"eval/rare" if number == 17 else "eval/loss": [float(number)]})
    runs = find_runs(tmp_path).runs
    assert [run.name for run in table.select(runs, ["rare>0"])] == ["17"]
    assert choose_metric(runs, "eval/rare") == Metric("eval/rare", "max", is_certain=False)


def test_a_run_is_found_by_part_of_its_name(runs: list[RunFolder]) -> None:
    assert table.find_run(runs, "wi").name == "wide"
    with pytest.raises(UsageError, match=r"`e` is ambiguous: `base`, `wide`; give more of the name"):
        table.find_run(runs, "e")
    with pytest.raises(UsageError, match="There is no run `bose`; did you mean `base`"):
        table.find_run(runs, "bose")


def test_runs_as_text_and_as_json(paccel: Any, work: Path) -> None:
    write_run(work / "runs" / "a\x1b[31m", learning_rate=1e-3)
    write_run(work / "runs" / "b", learning_rate=1e-2, started=STARTED + 1)
    (work / "runs" / "b" / "config.json").write_text("{")
    (work / "runs" / "notes").mkdir()
    done = paccel("runs")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == [
        "RUN",
        "STATE",
        "STEP",
        "AGE",
        "BEST",
        "eval/loss",
        "AT",
        "STEP",
        "COMMIT",
        "SETTINGS",
    ]
    assert "\x1b[31m" not in done.out  # a name moves no cursor
    assert "b: `config.json` is damaged" in done.err
    assert "notes holds no run" in done.err
    data = paccel("runs", "--json", "--sort", "name").data
    assert [run["name"] for run in data["runs"]] == ["a\x1b[31m", "b"]
    assert data["runs"][0]["best"] == {"value": 0.5, "step": 30}
    assert data["others"] == [{"name": "notes", "reason": "holds no run"}]
    assert paccel("runs", "--where", "nope=1").code == 2
    assert "None of the 2 runs meets `state=failed`" in paccel("runs", "--where", "state=failed").err
    assert paccel("runs", "nowhere").code == 2


def test_a_folder_without_runs(paccel: Any, work: Path) -> None:
    done = paccel("runs")
    assert (done.code, done.out, done.err) == (0, "", "There are no runs in .\n")
    assert json.loads(paccel("runs", "--json").out)["runs"] == []


def test_compare_as_text_and_as_json(paccel: Any, work: Path) -> None:
    for seed in range(3):
        for rate in (0.1, 0.2):
            write_run(
                work / "runs" / f"{rate}-{seed}",
                {"eval/loss": [1.0, 0.5 + rate + 0.1 * seed + rate * 0.01 * (seed % 2)]},
                learning_rate=rate,
                seed=seed,
            )
    done = paccel("compare", "runs", "--by", "learning_rate")
    assert done.code == 0
    assert (
        "`learning_rate=0.2` is worse than `learning_rate=0.1` by 0.1003 ± 0.0014 (14 %) (paired over 3 seeds"
        in done.out
    )
    assert done.out.splitlines()[0].split() == ["SETTING", "learning_rate=0.1", "learning_rate=0.2"]
    data = paccel("compare", "0.1-0", "0.2-0", "--json", "--html", "page.html").data
    assert [group["label"] for group in data["groups"]] == ["0.1-0", "0.2-0"]
    assert data["verdicts"][0]["finding"] == "too few runs"
    assert (work / "page.html").read_text().startswith("<!doctype html>")
    assert "`0.3-0` is neither a run nor a folder of runs; did you mean `0." in paccel("compare", "0.3-0").err
    assert paccel("compare").code == 2
    for name in ("x\x1b[2J", "y\x1b[2J"):
        write_run(work / "odd" / name, state="stopped", seed=1)
    done = paccel("compare", "odd")
    assert "\x1b[2J" not in done.out + done.err
    assert "not finished: x" in done.err


@pytest.mark.slow
def test_two_thousand_runs_are_read_in_about_a_second(tmp_path: Path) -> None:
    for number in range(2000):
        write_run(tmp_path / f"{number:04}", {"eval/loss": [1.0 / (1 + number)] * 20}, seed=number)
    before = time.process_time()
    runs = find_runs(tmp_path).runs
    lines = table.lines(table.sort(runs, "eval/loss"), choose_metric(runs), runs[0])
    assert time.process_time() - before < 3  # of a processor; 0.5 on an idle one
    assert lines[0].run.name == "1999"
