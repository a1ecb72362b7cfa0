"""What filled the GPU's memory when a run was out of memory."""

from pathlib import Path

import torch


def write_memory_snapshot(folder: Path, step: int, process: int) -> list[Path]:
    """Write PyTorch's snapshot of CUDA memory, for https://pytorch.org/memory_viz, and its summary as text.

    Returns:
        The files; none without CUDA.
    """
    if not torch.cuda.is_available():
        return []
    name = f"memory-step-{step}" + (f"-process-{process}" if process else "")
    snapshot, summary = folder / f"{name}.pickle", folder / f"{name}.txt"
    torch.cuda.memory._dump_snapshot(str(snapshot))  # type: ignore[no-untyped-call]
    summary.write_text(torch.cuda.memory_summary(), encoding="utf-8")
    return [snapshot, summary]
