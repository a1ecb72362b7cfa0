    if name not in models.list_models(models):
        raise ConfigError(
            f"The model `{name}` cannot be loaded: torchvision has no classifier of that name; "
            "`torchvision.models.list_models(torchvision.models)` lists them"
        )
