"""Buffers of models: restored after a rehearsal, or reported if no checkpoint saves them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """A context after which all buffers are restored, such as those of observers, which change in evaluation too."""
    before = [(module, name, buffer, buffer.clone()) for module, name, buffer in _buffers(model)]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in before:
                if buffer.shape != value.shape:
                    buffer.resize_(value.shape)
                buffer.copy_(value)
                if module.get_buffer(name) is not buffer:  # replaced, not changed in place
                    setattr(module, name, buffer)


class UnsavedBuffers:
    """The buffers of models with `persistent=False`, which no checkpoint saves.

    Most are caches. A buffer that training changes is part of the model's state, and a resumed run would lose it.

    Args:
        models: By name, without wrappers.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self._models = models
        self._before: dict[str, Tensor] = {}

    def note(self) -> None:
        """Copy each buffer, to compare it later."""
        self._before = {name: buffer.detach().clone() for name, buffer in self._found()}

    def take_changed(self) -> list[str]:
        """The names of buffers whose values changed since `note`, once. A buffer that changed its shape is a cache."""
        before, self._before = self._before, {}
        return [
            name
            for name, buffer in (self._found() if before else ())
            if name in before and buffer.shape == before[name].shape and not _equal(buffer, before[name])
        ]

    def _found(self) -> Iterator[tuple[str, Tensor]]:
        for key, model in self._models.items():
            buffers = {name: buffer for name, buffer in model.named_buffers() if not is_lazy(buffer)}
            saved = model.state_dict(keep_vars=True).keys() if buffers else ()
            yield from ((f"{key}.{name}", buffer) for name, buffer in buffers.items() if name not in saved)


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not is_lazy(buffer):
                yield module, name, buffer


def _equal(now: Tensor, before: Tensor) -> bool:
    return torch.equal(now, before) or bool(((now == before) | (now.isnan() & before.isnan())).all())
