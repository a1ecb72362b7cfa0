def tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a model's outputs, in order."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif outputs is not None:
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from tensors(part)


def check(name: str, outputs: Any, expected: Any, tolerance: float) -> None:
    """Compare an exported file's outputs with the model's.

    Raises:
        ValueError: They differ by more than the tolerance, or in shape.
    """
    for ours, theirs in zip(tensors(outputs), tensors(expected), strict=True):
        if ours.shape != theirs.shape:
            shapes = f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
            raise ValueError(f"The outputs of `{name}` differ from the model's: {shapes}")
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
            worst = (ours - theirs).abs().max().item()
            raise ValueError(f"The outputs of `{name}` differ from the model's by up to {worst:.2g}")
