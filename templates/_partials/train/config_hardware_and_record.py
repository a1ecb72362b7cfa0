    # Hardware
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 or fp16 on a GPU, fp32 elsewhere
    compile: bool = False  # the model, with torch.compile
    # % if counts_flops is defined
    peak_flops: float | None = None  # of one device each second, for `time/mfu`; None is what is known of it
    # % endif
    deterministic: bool = False  # only algorithms that give the same bits each time, slower on a GPU

    # Record
    log_every: int | None = 20  # steps between lines of training metrics; None is off
    eval_every: int | None = {{ eval_every | default("None") }}  # steps between evaluations; None is at the end of each epoch
    save_every: int | None = {{ eval_every | default("None") }}  # steps between checkpoints; None is at the end of each epoch
    keep_last: int = 2  # newest checkpoints to keep
    resume: str = "never"  # auto: go on with run_dir or the newest unfinished run; or the PATH of a run or checkpoint
    run_dir: Path | None = None  # everything that the run writes; None is runs/<time>
    time_limit: float | None = None  # seconds after which the run saves and stops with exit code 75; None is off
    # % if cookiecutter.tracker == "none"
    trackers: tuple[str, ...] = ()  # where else metrics go, such as tensorboard or wandb
    # % else
    trackers: tuple[str, ...] = ("{{ cookiecutter.tracker }}",)  # where else metrics go
    # % endif
    # % if cookiecutter.profile
    profile_from: int = 11  # step of this start of the run, counted from 1, that is the first to be profiled
    profile_steps: int = 5  # steps to profile; their trace is in the run directory
    # % endif
