"""Where a number that is not finite first appears: which module of a model, in which step. For `--find-non-finite`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from .position import Position

VARIABLE = "PACCEL_FIND_NON_FINITE"
"""The environment variable that `--find-non-finite` sets: `1` looks, in each run of the process."""


def is_wanted() -> bool:
    return os.environ.get(VARIABLE, "0") not in ("", "0")


class NonFiniteFinder:
    """Looks at what every module returns, at its gradient, and at the gradients of parameters, and stops at the first that is
    not finite. Each look waits for the device, so a run is several times slower.

    Args:
        position: Which step it is.
    """

    def __init__(self, position: Position) -> None:
        self._position = position

    def watch(self, model: nn.Module) -> None:
        """Look at each module of a model from now on."""
        for name, module in model.named_modules():
            called = f"`{name}` ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
            module.register_forward_hook(partial(self._look_at_output, called), with_kwargs=True)

    def look_at_loss(self, loss: Tensor) -> None:
        """Raises a NonFiniteError where the loss is not finite, though all that modules returned is."""
        if bad := _how_many(loss):
            raise self._found(
                f"the loss is not finite ({bad}), though what every module returned is: look at its formula"
            )

    def look_at_gradients(self, model: nn.Module) -> None:
        """Raises a NonFiniteError where the gradient of a parameter is not finite, though those of all outputs are."""
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and (bad := _how_many(parameter.grad)):
                raise self._found(f"the gradient of the parameter `{name}` is not finite ({bad})")

    def _look_at_output(
        self, called: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        for tensor in _tensors(output):
            if bad := _how_many(tensor):
                raise self._found(
                    f"what {called} returns is not finite ({bad}); {_why(module, (*args, *kwargs.values()))}"
                )
            if tensor.requires_grad and not tensor.is_leaf:  # a parameter would keep its hooks, and is looked at anyway
                tensor.register_hook(partial(self._look_at_gradient, called))  # type: ignore[no-untyped-call]

    def _look_at_gradient(self, called: str, gradient: Tensor) -> None:
        if bad := _how_many(gradient):
            raise self._found(
                f"the gradient of what {called} returns is not finite ({bad}), the first one on the way back from the loss"
            )

    def _found(self, what: str) -> NonFiniteError:
        return NonFiniteError(f"In step {self._position.step}, {what}")


def _why(module: nn.Module, inputs: Iterable[Any]) -> str:
    names = [name for name, parameter in module.named_parameters() if _how_many(parameter)]
    if names:
        return f"its parameter `{names[0]}` is not finite: an earlier update has made it so"
    if any(_how_many(tensor) for tensor in _tensors(list(inputs))):
        return "what it is given is not finite either: look at the data, or at the code before it"
    return "what it is given is finite, and so are its parameters"


def _how_many(tensor: Tensor) -> str:
    """How many values are not finite, in words; nothing where all are."""
    local: Tensor = tensor.detach()
    local = local.to_local() if hasattr(local, "to_local") else local
    if not (local.is_floating_point() or local.is_complex()):
        return ""
    bad = int(torch.isfinite(local).logical_not().sum())
    return f"{bad} of {local.numel()} values" if bad else ""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
