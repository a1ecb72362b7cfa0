def tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """The tensors of what a model returns, in order."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif outputs is not None:
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from tensors(part)


def check(name: str, outputs: Any, expected: Any, tolerance: float) -> None:
    """Compare outputs with the model's.

    Raises:
        ValueError: They differ by more than the tolerance, or in shape.
    """
    for ours, theirs in zip(tensors(outputs), tensors(expected), strict=True):
        if ours.shape != theirs.shape:
            shapes = f"{tuple(ours.shape)}, not {tuple(theirs.shape)}"
            raise ValueError(f"`{name}` gives other outputs than the model: their shape is {shapes}")
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
            worst = (ours - theirs).abs().max().item()
            raise ValueError(f"`{name}` gives other outputs than the model: they differ by up to {worst:.2g}")
