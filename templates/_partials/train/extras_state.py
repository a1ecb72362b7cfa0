            # % if cookiecutter.ema
            ema=ema,
            # % endif
            # % if cookiecutter.early_stopping
            early_stopping=early_stopping,
            # % endif
