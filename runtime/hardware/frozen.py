"""Frozen weights, which a checkpoint may leave out because the script loads them before it resumes."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .agreement import Agreement
from .sharding import local, whole


class FrozenWeights:
    """The frozen parameters of models, each with the SHA-256 of its values at the start of the run.

    Args:
        models: By name, without wrappers.
        agreement: The processes.
    """

    def __init__(self, models: Mapping[str, nn.Module], agreement: Agreement) -> None:
        self._models, self._agreement = models, agreement
        self._hashes: dict[str, dict[str, str]] = {name: {} for name in models}
        self._sums: dict[tuple[str, str], int] = {}  # by model and parameter: a fast checksum
        self._is_noted = False

    @torch.no_grad()
    def note(self, others: Mapping[str, Collection[str]] | None = None) -> None:
        """Hash the parameters that are frozen at the first call, and `others` by model. Collective."""
        places = [] if self._is_noted else list(self._frozen())
        places += [(name, key) for name, keys in (others or {}).items() for key in keys]
        own: dict[tuple[str, str], str] = {}
        for number, (name, key) in enumerate(dict.fromkeys(places)):
            parameter = self._parameters(name).get(key)
            if parameter is None or key in self._hashes[name]:
                continue
            self._sums[name, key] = _sum(parameter)
            full = whole(parameter.detach())
            if number % self._agreement.num_processes == self._agreement.rank:
                own[name, key] = _hash(full)
        for found in self._agreement.gather(own):
            for (name, key), digest in found.items():
                self._hashes[name][key] = digest
        self._is_noted = True

    @torch.no_grad()
    def unchanged(self) -> dict[str, dict[str, str]]:
        """By model and parameter, the hashes of those that are frozen and unchanged since `note`. Collective."""
        self.note()
        now = self._frozen()
        same = {place for place, sums in self._sums.items() if place in now and _sum(now[place]) == sums}
        on_all = set.intersection(*self._agreement.gather(same))
        return {
            name: {key: digest for key, digest in sorted(hashes.items()) if (name, key) in on_all}
            for name, hashes in self._hashes.items()
        }

    def fill_in(self, name: str, state: Mapping[str, Any], left_out: Mapping[str, str]) -> dict[str, Any]:
        """Complete a model's saved state with the weights that it leaves out, from the model. They must have been noted.

        Args:
            name: The model.
            state: Its saved state.
            left_out: The saved hashes of the parameters that it leaves out.

        Raises:
            CheckpointError: The model's weights have other hashes; names them.
        """
        own = self._parameters(name)
        others = sorted(key for key, digest in left_out.items() if self._hashes[name].get(key) != digest)
        if others:
            some = ", ".join(f"`{key}`" for key in others[:3]) + (f" and {len(others) - 3} more" if others[3:] else "")
            raise CheckpointError(
                f"`{name}` was saved without its frozen weights (`trainable_only`), and they differ here: {some}. "
                "Load the weights that the run started from, and freeze them, before `restore`"
            )
        return {**state, **{key: own[key] for key in left_out}}

    def _parameters(self, name: str) -> dict[str, Any]:
        return dict(self._models[name].named_parameters(remove_duplicate=False))

    def _frozen(self) -> dict[tuple[str, str], Any]:
        """The frozen parameters, by model and name."""
        return {
            (name, key): parameter
            for name in self._models
            for key, parameter in self._parameters(name).items()
            if not parameter.requires_grad
        }


def _hash(tensor: Tensor) -> str:
    """The SHA-256 of dtype, shape and values, for any device and strides."""
    flat = _flat(tensor.cpu()).view(torch.uint8)
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def _sum(parameter: Any) -> int:
    """A checksum of the bits that this process holds. It notices changes, and is as fast as reading the memory."""
    own = _flat(local(parameter))
    bits = own.view(_INTEGERS[min(own.element_size(), 8)])
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for first in range(0, len(bits), _PIECE):
        part = bits[first : first + _PIECE]
        places = torch.arange(1, 2 * len(part), 2, device=bits.device)
        total = total * _FACTOR + (part * places).sum()  # integers wrap around
    return int(total)


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PIECE = 1 << 22  # numbers summed at once
_FACTOR = 0x5851F42D4C957F2D  # odd, from Knuth's MMIX generator


def _flat(tensor: Tensor) -> Tensor:
    return tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
