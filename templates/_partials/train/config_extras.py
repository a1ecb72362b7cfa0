    # % if cookiecutter.ema
    ema_decay: float = 0.99  # of the weights' moving average, for each step
    # % endif
    # % if cookiecutter.early_stopping
    patience: int = 5  # evaluations without a {{ "higher" if best_is | default("min") == "max" else "lower" }} {{ watched | default("loss") }} before the run ends
    # % endif
