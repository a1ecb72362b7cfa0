"""Search for better settings with optuna: each trial is a run of train.py with other settings.

    python search.py --trials 30                    stop it at any time: the same command goes on
    python search.py --fixed short.toml             settings of all trials, as in `train.py --config`

The study is runs/search/journal.log. Several searches on one disk may share it: each takes its own trials.
"""

from dataclasses import dataclass
import json
import math
from pathlib import Path
import shlex
import signal
import subprocess
import sys
import time
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from paccel.runtime import load_config


@dataclass
class SearchConfig:
    """How to search."""

    trials: int = 30  # runs of the study in all, those of earlier calls included
    study: Path = Path("runs/search")  # the folder of the study and of its runs
    score: str = "eval/loss"  # what to compare, by its name in metrics.jsonl
    direction: Literal["minimize", "maximize"] = "minimize"  # whether less of it is better, or more
    startup_trials: int = 5  # trials that are drawn at random and run to their end
    fixed: Path | None = None  # a TOML file with settings of all trials; None is train.py's defaults


def suggest(trial: optuna.Trial) -> None:
    """The settings to vary, by the names of `Config` in train.py: edit them."""
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_float("warmup_ratio", 0.0, 0.3)


def open_study(chosen: SearchConfig) -> optuna.Study:
    """The study, new or as earlier calls have left it."""
    chosen.study.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=chosen.score,
        storage=JournalStorage(JournalFileBackend(str(chosen.study / "journal.log"))),
        load_if_exists=True,
        direction=chosen.direction,
        sampler=optuna.samplers.TPESampler(n_startup_trials=chosen.startup_trials),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=chosen.startup_trials),
    )


def trials_done(study: optuna.Study) -> int:
    """How many trials have ended, but for those that were cut off."""
    return sum(trial.state.is_finished() and "cut_off" not in trial.user_attrs for trial in study.trials)


def settings(params: dict[str, Any]) -> list[str]:
    """The settings as a command line has them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in params.items()]


def read_scores(run_dir: Path, name: str) -> list[tuple[int, float]]:
    """The (step, score) of each evaluation of a run so far; a score that is not finite is left out."""
    path = run_dir / "metrics.jsonl"
    whole = path.read_text().splitlines(keepends=True) if path.exists() else []
    lines = [json.loads(line) for line in whole if line.endswith("\n")]  # the last may be half written
    return [(line["step"], line[name]) for line in lines if line.get(name) is not None]


def run_trial(trial: optuna.Trial, chosen: SearchConfig) -> float:
    """Train with the settings of a trial, watch its scores, and end it when they are worse than the median's.

    Raises:
        TrialPruned: It was ended.
        RuntimeError: The run failed, or gave no score.
    """
    suggest(trial)
    run_dir = chosen.study / f"trial-{trial.number}"
    command = [sys.executable, "train.py", f"--run-dir={run_dir}", *settings(trial.params)]
    command += [f"--config={chosen.fixed}"] if chosen.fixed else []
    seen = 0
    with (chosen.study / f"trial-{trial.number}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            ended = False
            while not ended:
                ended = process.poll() is not None  # before its scores are read, so that none is missed
                scores = read_scores(run_dir, chosen.score)
                for step, score in scores[seen:]:
                    trial.report(score, step)
                    seen += 1
                    if not ended and trial.should_prune():
                        raise optuna.TrialPruned(f"at step {step}")
                time.sleep(0 if ended else 0.2)
        finally:
            process.terminate()  # where it still runs: it saves and stops
            process.wait()
    if process.returncode:
        raise RuntimeError(f"`{shlex.join(command)}` failed: see {log.name}")
    if not seen:
        raise RuntimeError(f"`{chosen.score}` is in no line of {run_dir / 'metrics.jsonl'}")
    best = min if chosen.direction == "minimize" else max
    return best(score for _, score in scores)


def main(chosen: SearchConfig) -> list[str]:
    """Search, print what was best as a command line, and return its settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(chosen)
    while trials_done(study) < chosen.trials:
        trial = study.ask()
        try:
            value, state = run_trial(trial, chosen), TrialState.COMPLETE
        except optuna.TrialPruned:
            value, state = math.nan, TrialState.PRUNED
        except RuntimeError as problem:
            value, state = math.nan, TrialState.FAIL
            print(problem, file=sys.stderr)
        except BaseException:  # cut off: the same settings are those of the next trial
            study.enqueue_trial(trial.params)
            trial.set_user_attr("cut_off", True)
            study.tell(trial, state=TrialState.FAIL)
            raise
        study.tell(trial, value if state is TrialState.COMPLETE else None, state)
        shown = f"{value:.4g}" if state is TrialState.COMPLETE else state.name.lower()
        print(f"trial {trial.number}: {shown:>8}  {shlex.join(settings(trial.params))}", flush=True)
    if not study.get_trials(states=[TrialState.COMPLETE]):
        raise SystemExit(f"No trial has ended well: see {chosen.study}")
    best = settings(study.best_params)
    print(f"best {chosen.score}: {study.best_value:.4g} in trial {study.best_trial.number}")
    print(shlex.join(["python", "train.py", *best]))
    return best


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the run that is on saves and stops
    try:
        main(load_config(SearchConfig))
    except KeyboardInterrupt:
        print("Stopped: the same command goes on", file=sys.stderr)
        sys.exit(130)
