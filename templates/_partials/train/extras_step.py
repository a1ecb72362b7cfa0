                # % if cookiecutter.ema
                ema.update()
                # % endif
                # % if cookiecutter.profile
                profiler.step()
                # % endif
