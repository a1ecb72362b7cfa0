    # % if cookiecutter.ema
    ema_decay: float = 0.99  # EMA decay per step
    # % endif
    # % if cookiecutter.early_stopping
    patience: int = 5  # evaluations without improvement before the run stops
    # % endif
