"""Tensors as the bytes of a safetensors file.

The library's own writer needs all tensors on the host at the same time, refuses those that share memory, and orders
metadata at random. This one goes tensor by tensor, and the same values make the same bytes. The library reads them.
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
    """The format's name for a dtype, None if the installed safetensors cannot both write and read it."""
    try:
        content = safetensors.torch.save({"x": torch.empty(2, dtype=dtype)})
        name: str = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["x"]["dtype"]
        return name if safetensors.torch.load(content)["x"].dtype == dtype else None
    except Exception:  # whichever it raises for an unknown type
        return None


def tensor_chunks(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """Yield the content of a file: the header, then the values of each tensor, one at a time on the host.

    Args:
        tensors: By name; with a dtype that has a `dtype_name`, on any device, with any strides, shared or not.
        metadata: Text for the header.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    in_order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # largest first: all are aligned
    start = 0
    for name in in_order:
        tensor = tensors[name]
        end = start + tensor.nbytes
        header[name] = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    yield len(content).to_bytes(8, "little") + content
    for name in in_order:
        flat = tensors[name].detach().cpu().resolve_conj().resolve_neg().reshape(-1)
        if flat.numel():
            if flat.stride(0) != 1:  # PyTorch calls a single strided value contiguous
                flat = flat.clone(memory_format=torch.contiguous_format)
            yield flat.view(torch.uint8).numpy().data


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file, on the host.

    Raises:
        CheckpointError: The file is missing, damaged or no regular file, such as a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"`{path}` cannot be read: it is no regular file")
    try:
        with safe_open(path, framework="pt") as file:
            # Copied, as the library maps the file: it may be removed while training goes on, and its tensors are not
            # aligned as others are, on which the order of a sum depends.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}") from error
