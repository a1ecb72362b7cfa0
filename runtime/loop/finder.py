"""Finding the module and the step where a NaN or infinity first appears, for `--find-non-finite`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..hardware.sharding import own_values
from .position import Position

VARIABLE = "PACCEL_FIND_NON_FINITE"
"""The environment variable that `--find-non-finite` sets: `1` turns it on for each run of the process."""


def is_wanted() -> bool:
    return os.environ.get(VARIABLE, "0") not in ("", "0")


class NonFiniteFinder:
    """Checks every module's output, the gradient of the output, and parameter gradients. The first that is not finite is an
    error. Each check waits for the device, so a run is several times slower.

    Args:
        position: Which step it is.
    """

    def __init__(self, position: Position) -> None:
        self._position = position

    def watch(self, model: nn.Module) -> None:
        """Check each module of a model from now on."""
        for name, module in model.named_modules():
            title = f"`{name}` ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
            module.register_forward_hook(partial(self._check_output, title), with_kwargs=True)

    def check_loss(self, loss: Tensor) -> None:
        """Check the loss, after all outputs of modules were finite.

        Raises:
            NonFiniteError: It is not finite.
        """
        if bad := _non_finite(loss):
            raise self._error(
                f"the loss is not finite ({bad}), although the output of every module is: check how it is computed"
            )

    def check_gradients(self, model: nn.Module) -> None:
        """Check the gradients of parameters, after those of all outputs were finite.

        Raises:
            NonFiniteError: One is not finite; names the first.
        """
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and (bad := _non_finite(parameter.grad)):
                raise self._error(f"the gradient of the parameter `{name}` is not finite ({bad})")

    def _check_output(
        self, title: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        for tensor in _tensors(output):
            if bad := _non_finite(tensor):
                raise self._error(
                    f"the output of {title} is not finite ({bad}); {_cause(module, (*args, *kwargs.values()))}"
                )
            if (
                tensor.requires_grad and not tensor.is_leaf
            ):  # hooks on a parameter would stay; its gradient is checked anyway
                tensor.register_hook(partial(self._check_gradient, title))  # type: ignore[no-untyped-call]

    def _check_gradient(self, title: str, gradient: Tensor) -> None:
        if bad := _non_finite(gradient):
            raise self._error(
                f"the gradient of the output of {title} is not finite ({bad}), the first in the backward pass"
            )

    def _error(self, problem: str) -> NonFiniteError:
        return NonFiniteError(f"In step {self._position.step}, {problem}")


def _cause(module: nn.Module, inputs: Iterable[Any]) -> str:
    names = [name for name, parameter in module.named_parameters() if _non_finite(parameter)]
    if names:
        return f"its parameter `{names[0]}` is not finite, from an earlier update"
    if any(_non_finite(tensor) for tensor in _tensors(list(inputs))):
        return "its input is not finite either: check the data, or the code before this module"
    return "its input and parameters are finite"


def _non_finite(tensor: Tensor) -> str:
    """How many values are not finite, in words; empty if all are finite."""
    local = own_values(tensor.detach())
    if not (local.is_floating_point() or local.is_complex()):
        return ""
    bad = int(torch.isfinite(local).logical_not().sum())
    return f"{bad} of {local.numel()} values" if bad else ""


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
