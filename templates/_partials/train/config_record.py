    keep_last: int = 2  # number of checkpoints to keep, the newest ones
    resume: str = "never"  # auto = continue run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # output folder of the run; None = runs/<time>
    time_limit: float | None = None  # save and stop after this many seconds, with exit code 75; None = off
    # % if cookiecutter.tracker == "none"
    trackers: tuple[str, ...] = ()  # experiment trackers, such as tensorboard or wandb
    # % else
    trackers: tuple[str, ...] = ("{{ cookiecutter.tracker }}",)  # experiment trackers
    # % endif
    # % if cookiecutter.profile
    profile_from: int = 11  # first step to profile, counted from the start or resume of the run
    profile_steps: int = 5  # number of steps to profile; the trace is written to the run directory
    # % endif
