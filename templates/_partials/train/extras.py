        # % if cookiecutter.ema
        ema = EMA({{ averaged | default("model") }}, decay=config.ema_decay)
        # % endif
        # % if cookiecutter.early_stopping
        early_stopping = EarlyStopping(config.patience{{ ", mode=\"max\"" if best_is | default("min") == "max" }})
        # % endif
        # % if cookiecutter.profile
        # Of each process; look at a trace with https://ui.perfetto.dev. It ends with the run, however that ends.
        profiler = stack.enter_context(
            torch.profiler.profile(
                schedule=torch.profiler.schedule(
                    wait=max(config.profile_from - 2, 0), warmup=1, active=config.profile_steps, repeat=1
                ),
                on_trace_ready=torch.profiler.tensorboard_trace_handler(str(run.run_dir / "profile")),
                record_shapes=True,
            )
        )
        # % endif
