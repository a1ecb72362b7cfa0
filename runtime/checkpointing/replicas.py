"""Whether all processes train the same model in the same way."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import AgreementError, quoted
from ..hardware.agreement import Agreement
from ..hardware.sharding import is_sharded
from ..record.reporting import Reporter

_MUST_AGREE = ("lr", "weight_decay", "momentum", "betas")


class Replicas:
    """Compares the copies that the processes have of models and optimizers.

    Args:
        models: Without wrappers, by name.
        optimizers: By name.
        agreement: The processes.
        reporter: Prints the warning.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, Any],
        agreement: Agreement,
        reporter: Reporter,
    ) -> None:
        self._models, self._optimizers = models, optimizers
        self._agreement, self._reporter = agreement, reporter
        self._has_compared_weights = False

    def check(self) -> None:
        """Compare the param groups, and the first time the weights, of all processes. Collective.

        Raises:
            AgreementError: The processes have different learning rates or other fields of param groups.
        """
        if self._agreement.num_processes > 1:
            self._check_param_groups()
            if not self._has_compared_weights:
                self._has_compared_weights = True
                self._compare_weights()

    def _check_param_groups(self) -> None:
        """A scheduler that each process passed its own score would make their updates differ. Collective."""
        own = {
            f"{field} of `{name}`": [_numbers(group.get(field)) for group in optimizer.param_groups]
            for name, optimizer in self._optimizers.items()
            for field in _MUST_AGREE
        }
        found = self._agreement.gather(own)
        for rank, other in enumerate(found):
            for what, values in other.items():
                if values != found[0][what]:
                    raise AgreementError(
                        f"The processes differ in {what}: {found[0][what]} on process 0, {values} on process {rank}. "
                        "Pass a scheduler the same score on all processes, as `Meter.read` returns it"
                    )

    def _compare_weights(self) -> None:
        """Warn of a model that each process has trained separately, as without `run.prepare`. Collective."""
        own = {name: total for name, model in self._models.items() if (total := _sum_of_weights(model)) is not None}
        for rank, other in enumerate(found := self._agreement.gather(own)):
            if differing := [name for name in own if not math.isclose(other[name], found[0][name], rel_tol=1e-5)]:
                self._reporter.warn(
                    f"the weights of {quoted(differing)} differ between process 0 and {rank}, "
                    "and those of process 0 are saved: pass each model that is trained to `run.prepare`"
                )
                return


def _sum_of_weights(model: nn.Module) -> float | None:
    """The sum of absolute weights, equal for equal copies; None for a sharded model, or one without weights."""
    parameters = [parameter.detach() for parameter in model.parameters() if not is_lazy(parameter)]
    if not parameters or any(map(is_sharded, parameters)):
        return None
    return float(sum(parameter.abs().sum(dtype=torch.float64) for parameter in parameters))


def _numbers(value: Any) -> Any:
    """A field of a param group without tensors, so that values of several processes can be compared."""
    if isinstance(value, tuple | list):
        return [_numbers(item) for item in value]
    return value if value is None else float(value)
