"""Fine-tuning: which parts of a model to train, from which step on, and with which learning rates.

    groups = finetuning.param_groups(model, lr=1e-3, weight_decay=0.05, layers=[model.stem, model.body, model.head])
    unfreezing = finetuning.Unfreezing(run, model, {1: [model.head], 201: [model.body]})
    model, optimizer = run.prepare(model, torch.optim.AdamW(groups))
    …
    for step in run.steps(loader):
        unfreezing.apply(step.number)

The optimizer holds every group from the start. Frozen parameters get no gradient, and optimizers of PyTorch skip
parameters without one. So the trained parts are a function of the step, and there is no state to save.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .errors import ConfigError, quoted
from .run import Run

Layers = Sequence[nn.Module | Sequence[nn.Module]]

_NEVER = math.inf
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Unfreezing:
    """Unfreezes parts of a model at given steps. Parts without a step stay frozen.

    A frozen parameter gets no gradient and is not updated, not even by weight decay. A frozen batch norm is in
    evaluation mode: it uses its running statistics and does not update them. A parameter that is already frozen
    (`requires_grad` is False) when `Unfreezing` is created stays frozen.

    Args:
        run: The run.
        model: The unwrapped model. Create `Unfreezing` before `run.prepare`, as it decides how the model is wrapped.
        stages: First step -> the modules to train from that step on, steps counted from 1.
        train_norms: Train all norms of the model from the first step on.
        eval_frozen: Keep all frozen modules in evaluation mode, such as dropout, not only batch norms.

    Raises:
        ConfigError: The model is already wrapped, a module is not part of it, or nothing is trained in step 1.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        stages: Mapping[int, Iterable[nn.Module]],
        *,
        train_norms: bool = False,
        eval_frozen: bool = False,
    ) -> None:
        if isinstance(model, DistributedDataParallel):
            raise ConfigError("Create `Unfreezing` before `run.prepare`: it decides how the model is wrapped")
        starts = self._starts(model, stages, train_norms)
        own = [
            (m, name, p) for m in model.modules() for name, p in m.named_parameters(recurse=False) if p.requires_grad
        ]
        first: dict[int, float] = {}  # by parameter; for one that several modules share, the earliest step
        for module, _, parameter in own:
            first[id(parameter)] = min(starts.get(module, _NEVER), first.get(id(parameter), _NEVER))
        # By module and name, as sharding replaces the parameter objects
        self._parameters = [(module, name, first[id(parameter)]) for module, name, parameter in own]
        self._modes = [(m, _first(m, starts)) for m in model.modules() if eval_frozen or isinstance(m, _BATCH_NORMS)]
        self._changes = sorted(set(first.values()) - {_NEVER})
        if 1 not in self._changes:
            raise ConfigError(f"Nothing is trained in step 1: the first stage is at step {min(stages, default=None)}")
        if len(self._changes) > 1 and run.accelerator.num_processes > 1:
            # DDP waits for a gradient of each parameter that it was created with, unless told to look for unused ones
            run.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        for module, name, start in self._parameters:
            if start == _NEVER:  # so that DDP does not exchange its gradients
                getattr(module, name).requires_grad_(False)
        self._stage: int | None = None

    @staticmethod
    def _starts(model: nn.Module, stages: Mapping[int, Iterable[nn.Module]], train_norms: bool) -> dict[nn.Module, int]:
        """The first step of each module that is ever trained."""
        names = {module: name for name, module in model.named_modules()}
        starts: dict[nn.Module, int] = {}
        problems = []
        for step, parts in sorted(stages.items()):
            if step < 1:
                problems.append(f"steps are counted from 1: stage {step}")
            for part in parts:
                if part not in names:
                    problems.append(f"stage {step}: a `{type(part).__name__}` that is not in the model")
                for module in part.modules():
                    starts.setdefault(module, step)
        if problems:
            raise ConfigError("\n".join(problems))
        if train_norms:
            starts.update({module: 1 for module in model.modules() if _is_norm(module)})
        return starts

    def apply(self, step: int) -> None:
        """Set which parameters are trained in this step. Call it at the start of each; cheap if nothing changes."""
        stage = sum(change <= step for change in self._changes)
        if stage != self._stage:
            self._stage = stage
            for module, name, start in self._parameters:
                getattr(module, name).requires_grad_(start <= step)
        for module, start in self._modes:  # in each step, as `model.train()` at the start of an epoch changes them too
            if start > step:
                module.training = False
            elif start == step:
                module.training = True


def param_groups(
    model: nn.Module, *, lr: float, weight_decay: float, layers: Layers | None = None, layer_decay: float = 0.75
) -> list[dict[str, Any]]:
    """Param groups for an optimizer: no weight decay on norms, biases and other vectors; lower layers learn slower.

    Lists of several calls can be added, as in `param_groups(model.body, lr=1e-5, …) + param_groups(model.head, …)`.

    Args:
        model: The model. Each of its parameters with `requires_grad` is in one group.
        lr: The learning rate of the last layer, or of all.
        weight_decay: Of matrices, filters and embeddings. Parameters listed by the model's `no_weight_decay()`, as
            models of timm have it, get none.
        layers: From input to output; a list within the list is one layer. Parameters of the model itself, such as the
            class token and position embeddings of a vision transformer, are in the first layer, as in timm. None: all
            have the same learning rate.
        layer_decay: Factor of the learning rate from each layer to the one before it.

    Returns:
        Dicts with `name`, `params`, `lr` and `weight_decay`.

    Raises:
        ConfigError: Parameters are in no layer (lists them), or `layer_decay` is out of range.
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"`layer_decay` must be above 0 and at most 1: {layer_decay}")
    depth: dict[int, int] = {}
    for number, layer in enumerate(layers or ()):
        for part in [layer] if isinstance(layer, nn.Module) else layer:
            for parameter in part.parameters():
                depth.setdefault(id(parameter), number)
    for parameter in model.parameters(recurse=False):
        depth.setdefault(id(parameter), 0)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if layers is not None and (missing := [name for name, parameter in named if id(parameter) not in depth]):
        raise ConfigError(f"In none of the {len(layers)} layers: {quoted(missing)}")
    no_weight_decay: Any = getattr(model, "no_weight_decay", set)  # of timm's models
    exempt = set(no_weight_decay())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named:
        number, decays = depth.get(id(parameter), 0), parameter.ndim > 1 and name not in exempt
        if (number, decays) not in groups:
            label = ([] if layers is None else [f"layer {number + 1}"]) + ([] if decays else ["no decay"])
            groups[number, decays] = {
                "name": ", ".join(label) or "all",
                "params": [],
                "lr": lr if layers is None else lr * layer_decay ** (len(layers) - 1 - number),
                "weight_decay": weight_decay if decays else 0.0,
            }
        groups[number, decays]["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0], not key[1]))]


def describe(model: nn.Module) -> str:
    """One line for each child module of the model: name, type, number of parameters, and how many are trained now."""
    parts = [(name, type(part).__name__, list(part.parameters())) for name, part in model.named_children()]
    own = list(model.parameters(recurse=False))
    if own:
        parts.append(("(itself)", type(model).__name__, own))
    rows = [
        (name, kind, f"{sum(p.numel() for p in ps):,}", f"{sum(p.numel() for p in ps if p.requires_grad):,} trained")
        for name, kind, ps in parts
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows)


def _first(module: nn.Module, starts: Mapping[nn.Module, int]) -> float:
    """The first step in which anything in a module is trained, without its norms unless it is one itself."""
    found = (starts[part] for part in module.modules() if part in starts and (part is module or not _is_norm(part)))
    return min(found, default=_NEVER)


def _is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm by the name of its type, as PyTorch's are: BatchNorm2d, LayerNorm, RMSNorm, …"""
    return "Norm" in type(module).__name__
