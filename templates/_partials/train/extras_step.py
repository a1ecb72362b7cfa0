                # % if cookiecutter.ema
                ema.update()
                # % endif
