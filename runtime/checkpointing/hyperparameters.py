"""Hyperparameters that a script sets on its optimizers and schedulers, apart from the state that training adds.

A checkpoint holds both. On restore, a hyperparameter that the script now sets differently wins, in a new run as in a
resumed run whose script was edited: learning rate, weight decay, betas, the length of a schedule. Everything else comes
from the checkpoint: moments, step counts, a learning rate that a plateau has lowered.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ..errors import quoted
from ..hardware.param_groups import has_groups, set_field
from ..storage.encoding import same
from .tracked import Tracked

Group = dict[str, Any]

_SCHEDULED = {"lr", "initial_lr", "max_lr", "min_lr", "momentum", "base_momentum", "max_momentum", "betas"}
_DERIVED = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}  # bookkeeping of schedulers
_LEARNED = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")  # what ReduceLROnPlateau keeps of its scores


class Hyperparameters:
    """The hyperparameters of all tracked optimizers and schedulers, as the script set them before training.

    Attributes:
        initial: By name. For an optimizer its class, the fields of its param groups and the names of their parameters;
            for a scheduler its first state.
    """

    def __init__(self, tracked: Tracked) -> None:
        self._tracked = tracked
        self.initial: dict[str, Any] = {}
        self.note()

    def note(self) -> None:
        """Record the present values as those of the script."""
        names = self._tracked.parameter_names()
        found = {name: _hyperparameters(thing, names) for name, thing in self._tracked.objects.items()}
        self.initial = {name: value for name, value in found.items() if value is not None}

    def to_save(self) -> dict[str, Any]:
        """The initial values, with the names of parameters that were added to optimizers since."""
        names = self._tracked.parameter_names()
        added = {
            name: self.initial[name] | {"names": _names_in_groups(optimizer, names)}
            for name, optimizer in self._tracked.optimizers().items()
        }
        return self.initial | added

    def groups_of(self, scheduler: Any) -> list[Group]:
        """The initial param groups of the tracked optimizer that a scheduler sets; empty if it sets none of them."""
        own, groups = getattr(scheduler, "optimizer", None), []
        for name, optimizer in self._tracked.optimizers().items():
            if own is optimizer or own is getattr(optimizer, "optimizer", optimizer):  # in accelerate's wrapper or not
                groups = self.initial[name]["groups"]
        return groups


def _hyperparameters(thing: Any, names: Mapping[int, str]) -> Any:
    """What the script has set on an optimizer, or PyTorch's or timm's scheduler; None for anything else.

    Args:
        thing: Any tracked object.
        names: The name of each parameter, by its identity.
    """
    if has_groups(thing):
        plain = getattr(thing, "optimizer", thing)  # without accelerate's wrapper
        return ({"class": type(plain).__name__} if isinstance(plain, Optimizer) else {}) | {
            "groups": [_fields(group) for group in thing.param_groups],
            "names": _names_in_groups(thing, names),
        }
    if isinstance(thing, LRScheduler) or _is_timm(thing):
        return copy.deepcopy(thing.state_dict())
    return None


def _names_in_groups(optimizer: Any, names: Mapping[int, str]) -> list[list[str | None]]:
    groups = getattr(optimizer, "parameter_groups", None) or [group["params"] for group in optimizer.param_groups]
    return [[names.get(id(parameter)) for parameter in group] for group in groups]


def optimizer_state(state: Any, before: Any, now: Any, *, is_new_run: bool) -> Any:
    """The saved state of an optimizer, with the hyperparameters that the script has changed since.

    Args:
        state: As PyTorch's `Optimizer.state_dict` returns it.
        before: Its `Hyperparameters.initial` when the run of the checkpoint started; None in one of paccel 0.1.
        now: The same in this run.
        is_new_run: Whether the script's values win where `before` is unknown.

    Raises:
        ValueError: The checkpoint has parameters that the optimizer does not have, or is of another class, and the run
            is resumed.
    """
    if not isinstance(state, dict) or "param_groups" not in state:
        return state
    if was := replaced_class(before, now):
        if not is_new_run:
            raise ValueError(f"it is the state of `{was}`, and the optimizer is `{now['class']}`")
        return {"state": {}, "param_groups": _numbered_groups(now)}
    if before is not None and before["names"] != now["names"] and _all_named(before) and _all_named(now):
        return _regrouped(state, before["names"], now, is_new_run=is_new_run)
    if len(state["param_groups"]) != len(now["groups"]):
        sizes = " and ".join(str(len(groups)) for groups in (state["param_groups"], now["groups"]))
        raise ValueError(f"the checkpoint and the optimizer have {sizes} parameter groups")
    merged = []
    for number, (saved, own) in enumerate(zip(state["param_groups"], now["groups"], strict=True)):
        base = None if before is None or number >= len(before["groups"]) else before["groups"][number]
        changed = {
            field: value
            for field, value in own.items()
            if field not in saved or (is_new_run if base is None else not same(base.get(field), value))
        }
        merged.append(saved | copy.deepcopy(changed))
    return {**state, "param_groups": merged}


def replaced_class(before: Any, now: Any) -> str | None:
    """The class of the optimizer when the run of the checkpoint started, if it has another class now; else None."""
    is_known = before is not None and "class" in before and "class" in now
    return str(before["class"]) if is_known and before["class"] != now["class"] else None


def _all_named(hyperparameters: Any) -> bool:
    """Whether each parameter of an optimizer has a name. paccel 0.1 noted none under DeepSpeed's stage 3."""
    return all(names and None not in names for names in hyperparameters["names"])


def _numbered_groups(now: Any) -> list[Group]:
    """The param groups of the script, with parameters numbered as PyTorch's `state_dict` numbers them."""
    numbers = count()
    return [
        {**copy.deepcopy(fields), "params": [next(numbers) for _ in names]}
        for fields, names in zip(now["groups"], now["names"], strict=True)
    ]


def _regrouped(state: Any, before: list[list[str]], now: Any, *, is_new_run: bool) -> Any:
    """The state for changed param groups: each parameter keeps its state by name, the groups are the script's."""
    numbers = {name: number for number, name in enumerate(name for names in before for name in names)}
    own = [name for names in now["names"] for name in names]
    if not is_new_run and (gone := sorted(numbers.keys() - set(own))):
        raise ValueError(
            f"the checkpoint has {quoted(gone, 5)} in its parameter groups, which the optimizer does not train"
        )
    states = {
        number: state["state"][numbers[name]]
        for number, name in enumerate(own)
        if name in numbers and numbers[name] in state["state"]
    }
    return {**state, "state": states, "param_groups": _numbered_groups(now)}


def load_scheduler(
    scheduler: Any,
    state: Any,
    before: Any,
    now: Any,
    groups: Sequence[Group],
    *,
    is_new_run: bool,
    step: int,
    epoch: int,
) -> None:
    """Load the state of a scheduler; with changed hyperparameters, go to where it would be had it started with them.

    Args:
        scheduler: PyTorch's or timm's, whose optimizer is already loaded.
        state: Its state in the checkpoint.
        before: Its `Hyperparameters.initial` when the run of the checkpoint started; None if unknown.
        now: The same in this run.
        groups: The initial fields of the optimizer's param groups in this run.
        is_new_run: Whether the script's values win where `before` is unknown.
        step: The restored step.
        epoch: The restored epoch.
    """
    if not _is_timm(scheduler) and not {"last_epoch", "_schedulers"} & state.keys():  # of another kind of scheduler
        if not isinstance(scheduler, ReduceLROnPlateau):  # which has seen no score yet
            _replay(scheduler, {"last_epoch": step}, groups)
        return
    has_changed = is_new_run if before is None else not same(before, now)
    if isinstance(scheduler, LambdaLR) and not has_changed:  # its functions are not in its state: compare their values
        rates = zip(state["base_lrs"], scheduler.lr_lambdas, strict=True)
        has_changed = [base * function(state["last_epoch"]) for base, function in rates] != state["_last_lr"]
    if not has_changed:
        scheduler.load_state_dict(state)
    elif isinstance(scheduler, ReduceLROnPlateau) or _is_timm(scheduler):
        own = {name: value for name, value in now.items() if before is None or not same(before.get(name), value)}
        learned = {} if before is not None else {name: state[name] for name in _LEARNED if name in state}
        scheduler.load_state_dict({**state, **own, **learned})
        if _is_timm(scheduler):
            scheduler.step(epoch)
            scheduler.step_update(step)
    else:
        _replay(scheduler, state, groups)


def _replay(scheduler: LRScheduler, state: Any, groups: Sequence[Group]) -> None:
    """Step a scheduler of PyTorch from the script's initial values, as many times as the saved one was stepped."""
    for group, own in zip(scheduler.optimizer.param_groups, groups, strict=False):
        for field in _SCHEDULED & own.keys():
            set_field(group, field, copy.deepcopy(own[field]))
    while "last_epoch" not in state:  # PyTorch's `ChainedScheduler` keeps it in its parts
        state = state["_schedulers"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer was stepped
        for _ in range(state["last_epoch"]):
            scheduler.step()


def changes(saved: Sequence[Group], groups: Sequence[Group], but: set[str]) -> str:
    """How the fields of param groups differ from the saved ones, such as `lr from 0.001 to 1e-06`; empty if none does.

    Args:
        saved: The groups in the checkpoint.
        groups: The groups now.
        but: Fields to leave out.
    """
    found: dict[str, str] = {}
    for before, now in zip(saved, groups, strict=False):
        for field, value in _fields(now).items():
            if field in before and field not in but | _DERIVED and not same(before[field], value):
                found.setdefault(field, f"{field} from {_shown(before[field])} to {_shown(value)}")
    return ", ".join(found.values())


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    is_number = isinstance(value, float) or (isinstance(value, Tensor) and value.numel() == 1)
    return f"{float(value):.3g}" if is_number else repr(value)


def _fields(group: Group) -> Group:
    return {field: copy.deepcopy(value) for field, value in group.items() if field not in ("params", "param_names")}


def _is_timm(thing: Any) -> bool:
    """Whether it is a scheduler of timm, which sets values as a function of the epoch or update that it is passed."""
    return hasattr(thing, "step_update") and hasattr(thing, "base_values") and not hasattr(thing, "lr_scheduler")
