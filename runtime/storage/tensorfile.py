"""Tensors as the bytes of a safetensors file.

The library's own writer needs all tensors on the host at once, refuses those that share memory, and orders metadata
at random. This one goes tensor by tensor, and gives the same bytes for the same values. Reading is the library's.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError

Buffer = bytes | memoryview


@cache
def dtype_name(dtype: torch.dtype) -> str | None:
    """The format's name for a type, None where the installed safetensors does not both write and read it."""
    try:
        content = safetensors.torch.save({"x": torch.empty(2, dtype=dtype)})
        name: str = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["x"]["dtype"]
        return name if safetensors.torch.load(content)["x"].dtype == dtype else None
    except Exception:  # whatever it says of a type that it does not know
        return None


def tensor_chunks(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """The content of a file, in parts: the header, then each tensor's values, one at a time on the host.

    Args:
        tensors: By name; of types that have a `dtype_name`, on any device, with any strides, shared or not.
        metadata: Free text for the header.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that all are aligned
    start = 0
    for name in names:
        tensor = tensors[name]
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": dtype_name(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    yield len(content).to_bytes(8, "little") + content
    for name in names:
        flat = tensors[name].detach().cpu().resolve_conj().resolve_neg().reshape(-1)
        if flat.numel():
            if flat.stride(0) != 1:  # one value out of several counts as contiguous
                flat = flat.clone(memory_format=torch.contiguous_format)
            yield flat.view(torch.uint8).numpy().data


def load_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file's tensors and its metadata.

    Raises:
        CheckpointError: There is no such file, or it is not what it should be.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            # Copied on the CPU: the library maps the file, which may be removed while training goes on, and maps it
            # without the alignment of other tensors, on which the order of a sum depends.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}") from error
