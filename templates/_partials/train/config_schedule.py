    warmup_ratio: float = 0.07  # first share of all steps, over which the learning rate rises
    # % if cookiecutter.schedule == "wsd"
    decay_ratio: float = 0.2  # last share of all steps, over which the learning rate falls to zero
    # % endif
