def suggest(trial: optuna.Trial) -> None:
    """Sample the settings to vary, named as in `Config` of train.py. Edit this function."""
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_float("warmup_ratio", 0.0, 0.3)


def open_study(chosen: SearchConfig) -> optuna.Study:
    """Create the study, or load the one that earlier calls stored."""
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
    """Count the finished trials, without those that were interrupted."""
    return sum(trial.state.is_finished() and "cut_off" not in trial.user_attrs for trial in study.trials)


def settings(params: dict[str, Any]) -> list[str]:
    """Format settings as command-line options."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in params.items()]


def read_scores(run_dir: Path, name: str) -> list[tuple[int, float]]:
    """Read (step, score) of each evaluation so far, without scores that are not finite."""
    path = run_dir / "metrics.jsonl"
    whole = path.read_text().splitlines(keepends=True) if path.exists() else []
    lines = [json.loads(line) for line in whole if line.endswith("\n")]  # the last line may be incomplete
    return [(line["step"], line[name]) for line in lines if line.get(name) is not None]


def run_trial(trial: optuna.Trial, chosen: SearchConfig) -> float:
    """Train with the settings of a trial, report its scores, and stop it when the pruner says so.

    Raises:
        TrialPruned: The trial was stopped early.
        RuntimeError: The run failed or logged no score.
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
                ended = process.poll() is not None  # check before reading scores, so that none is missed
                scores = read_scores(run_dir, chosen.score)
                for step, score in scores[seen:]:
                    trial.report(score, step)
                    seen += 1
                    if not ended and trial.should_prune():
                        raise optuna.TrialPruned(f"at step {step}")
                time.sleep(0 if ended else 0.2)
        finally:
            process.terminate()  # if still running, it saves and stops
            process.wait()
    if process.returncode:
        raise RuntimeError(f"`{shlex.join(command)}` failed: see {log.name}")
    if not seen:
        raise RuntimeError(f"`{chosen.score}` was not logged in {run_dir / 'metrics.jsonl'}")
    best = min if chosen.direction == "minimize" else max
    return best(score for _, score in scores)


def main(chosen: SearchConfig) -> list[str]:
    """Run the search, print the best trial as a command, and return its settings."""
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
        except BaseException:  # interrupted: the next trial uses the same settings
            study.enqueue_trial(trial.params)
            trial.set_user_attr("cut_off", True)
            study.tell(trial, state=TrialState.FAIL)
            raise
        study.tell(trial, value if state is TrialState.COMPLETE else None, state)
        shown = f"{value:.4g}" if state is TrialState.COMPLETE else state.name.lower()
        print(f"trial {trial.number}: {shown:>8}  {shlex.join(settings(trial.params))}", flush=True)
    if not study.get_trials(states=[TrialState.COMPLETE]):
        raise SystemExit(f"No trial completed: see {chosen.study}")
    best = settings(study.best_params)
    print(f"best {chosen.score}: {study.best_value:.4g} in trial {study.best_trial.number}")
    print(shlex.join(["python", "train.py", *best]))
    return best


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the current run saves and stops
    try:
        with exit_with_message():
            main(load_config(SearchConfig))
    except KeyboardInterrupt:
        print("Stopped. Run the same command to continue.", file=sys.stderr)
        sys.exit(130)
