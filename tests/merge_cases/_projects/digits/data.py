"""The data."""


def load_digits(batch_size: int = 64):
    """Loaders for training and evaluation."""
    from loaders import make

    return make("train", batch_size), make("eval", batch_size)
