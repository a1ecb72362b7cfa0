"""Buffers of models: kept as they are, or noticed where no checkpoint has them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Within it, buffers may change, as those of observers do in evaluation too; afterwards all are as they were."""
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
    """The buffers with `persistent=False` of some models, which no checkpoint has.

    Most are caches. One that training changes is part of the model, and a resumed run would begin it afresh.

    Args:
        models: As they were written, by name.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self._models = models
        self._before: dict[str, Tensor] = {}

    def note(self) -> None:
        """Keep a copy of each as it is now."""
        self._before = {name: buffer.detach().clone() for name, buffer in self._found()}

    def take_changed(self) -> list[str]:
        """Those that have other values than when they were noted; one of another shape is a cache. Told once."""
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
