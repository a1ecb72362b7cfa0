        # % if cookiecutter.schedule == "cosine"
        schedule = schedules.cosine(optimizer, total_steps, warmup_steps)
        # % elif cookiecutter.schedule == "wsd"
        decay_steps = round(config.decay_ratio * total_steps)
        schedule = schedules.wsd(optimizer, total_steps, warmup_steps, decay_steps)
        # % else
        schedule = schedules.constant(optimizer, warmup_steps)
        # % endif
