    warmup_ratio: float = 0.07  # fraction of steps for linear warm-up
    # % if cookiecutter.schedule == "wsd"
    decay_ratio: float = 0.2  # fraction of steps for the final decay to zero
    # % endif
