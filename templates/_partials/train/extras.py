        # % if cookiecutter.ema
        ema = EMA(model, decay=config.ema_decay)
        # % endif
        # % if cookiecutter.early_stopping
        early_stopping = EarlyStopping(config.patience)
        # % endif
