"""The data."""


def load(name: str, batch_size: int = 4) -> list[list[float]]:
    """The batches of a split."""
    return [[float(len(name))] * batch_size]


def ranges(batches: list[list[float]]) -> tuple[float, float]:
    """The least and the greatest number."""
    flat = [number for batch in batches for number in batch]
    return min(flat), max(flat)
