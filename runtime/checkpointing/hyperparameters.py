"""What a script gives its optimizers and schedulers, apart from what training makes of them.

A checkpoint holds both: the values with which the script made them, and their state. When it is restored, what the script
now gives otherwise wins, in a new run as in one that goes on with an edited script: the rate, the decay, the betas, the
length of a schedule. Everything else comes from the checkpoint: moments, counts, a rate that a plateau has lowered.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ..storage.encoding import same

Group = dict[str, Any]

_SCHEDULED = {"lr", "initial_lr", "max_lr", "min_lr", "momentum", "base_momentum", "max_momentum", "betas"}
_DERIVED = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}  # bookkeeping of schedulers


def given(thing: Any, names: Mapping[int, str]) -> Any:
    """The values with which a script has just made an optimizer or a scheduler; None for anything else.

    Args:
        thing: The optimizer, or PyTorch's or timm's scheduler.
        names: The name of each parameter, by its identity.
    """
    if has_groups(thing):
        groups = getattr(thing, "parameter_groups", None) or [group["params"] for group in thing.param_groups]
        plain = getattr(thing, "optimizer", thing)  # without accelerate's wrapper
        return ({"class": type(plain).__name__} if isinstance(plain, Optimizer) else {}) | {
            "groups": [_fields(group) for group in thing.param_groups],
            "names": [[names.get(id(parameter)) for parameter in group] for group in groups],
        }
    if isinstance(thing, LRScheduler) or _is_timm(thing):
        return copy.deepcopy(thing.state_dict())
    return None


def has_groups(thing: Any) -> bool:
    """Whether it is an optimizer, or a wrapper around one."""
    return isinstance(getattr(thing, "param_groups", None), list)


def optimizer_state(state: Any, before: Any, now: Any, *, is_new_run: bool) -> Any:
    """The state of an optimizer with the fields of its groups that the script gives otherwise than `before`.

    Args:
        state: The optimizer's, as PyTorch has it.
        before: What `given` returned when the run of the checkpoint started; None in a checkpoint of paccel 0.1.
        now: What it returns in this run.
        is_new_run: Whether the script's fields win where it is not known what was given before.

    Raises:
        ValueError: The checkpoint has parameters that the optimizer does not have, in a run that goes on.
    """
    if not isinstance(state, dict) or "param_groups" not in state:
        return state
    if was := class_before(before, now):
        if not is_new_run:
            raise ValueError(f"it is the state of `{was}`, and the optimizer is `{now['class']}`")
        numbers = iter(range(sum(map(len, now["names"]))))
        groups = [
            {**fields, "params": [next(numbers) for _ in names]}
            for fields, names in zip(copy.deepcopy(now["groups"]), now["names"], strict=True)
        ]
        return {"state": {}, "param_groups": groups}
    if before is not None and _differ_in_order(before["names"], now["names"]):
        return _regrouped(state, before["names"], now, is_new_run=is_new_run)
    if len(state["param_groups"]) != len(now["groups"]):
        sizes = " and ".join(str(len(groups)) for groups in (state["param_groups"], now["groups"]))
        raise ValueError(f"the checkpoint and the optimizer have {sizes} parameter groups")
    merged = []
    for number, (theirs, own) in enumerate(zip(state["param_groups"], now["groups"], strict=True)):
        base = None if before is None or number >= len(before["groups"]) else before["groups"][number]
        changed = {
            field: value
            for field, value in own.items()
            if field not in theirs or (is_new_run if base is None else not same(base.get(field), value))
        }
        merged.append(theirs | copy.deepcopy(changed))
    return {**state, "param_groups": merged}


def class_before(before: Any, now: Any) -> str | None:
    """Of which other class an optimizer was when the run of the checkpoint started, whose state says nothing to it; else None."""
    is_known = before is not None and "class" in before and "class" in now
    return str(before["class"]) if is_known and before["class"] != now["class"] else None


def _differ_in_order(before: Sequence[Sequence[str | None]], now: Sequence[Sequence[str | None]]) -> bool:
    """Whether the same parameters may be numbered otherwise, and all of them have a name to go by."""
    # paccel 0.1 noted no parameter in the groups of DeepSpeed's stage 3
    known = all(names and None not in names for names in (*before, *now))
    return known and before != now


def _regrouped(state: Any, before: list[list[str]], now: Any, *, is_new_run: bool) -> Any:
    """The state for other groups: each parameter's own by its name, and the groups as the script has made them."""
    numbers = {name: number for number, name in enumerate(name for names in before for name in names)}
    own = [name for names in now["names"] for name in names]
    if not is_new_run and (gone := sorted(numbers.keys() - set(own))):
        some = ", ".join(f"`{name}`" for name in gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
        raise ValueError(
            f"the checkpoint has {len(before)} parameter groups with {some}, which the optimizer does not train"
        )
    states = {
        number: state["state"][numbers[name]]
        for number, name in enumerate(own)
        if name in numbers and numbers[name] in state["state"]
    }
    places = iter(range(len(own)))
    groups = [
        {**copy.deepcopy(fields), "params": [next(places) for _ in names]}
        for fields, names in zip(now["groups"], now["names"], strict=True)
    ]
    return {**state, "state": states, "param_groups": groups}


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
    """`scheduler.load_state_dict`, or where the script gives other settings, the place it would be at with those.

    Args:
        scheduler: PyTorch's or timm's, whose optimizer is loaded.
        state: Its state in the checkpoint.
        before: What `given` returned of it when the run of the checkpoint started; None if that is not known.
        now: What it returns in this run.
        groups: The fields of the optimizer's groups as the script has made them.
        is_new_run: Whether the script's settings win where it is not known what was given before.
        step: The step that is restored.
        epoch: The epoch that is restored.
    """
    has_changed = is_new_run if before is None else not same(before, now)
    is_of_another = not _is_timm(scheduler) and not {"last_epoch", "_schedulers"} & state.keys()
    if (
        isinstance(scheduler, LambdaLR) and not has_changed and not is_of_another
    ):  # the only one with settings that a state cannot show
        rates = zip(state["base_lrs"], scheduler.lr_lambdas, strict=True)
        has_changed = [base * function(state["last_epoch"]) for base, function in rates] != state["_last_lr"]
    if is_of_another and isinstance(scheduler, ReduceLROnPlateau):
        pass  # it has seen no score yet
    elif is_of_another:
        _replay(scheduler, {"last_epoch": step}, groups)
    elif not has_changed:
        scheduler.load_state_dict(state)
    elif isinstance(scheduler, ReduceLROnPlateau) or _is_timm(scheduler):
        own = {name: value for name, value in now.items() if before is None or not same(before.get(name), value)}
        learnt = {} if before is not None else {name: state[name] for name in _LEARNT if name in state}
        scheduler.load_state_dict({**state, **own, **learnt})
        if _is_timm(scheduler):
            scheduler.step(epoch)
            scheduler.step_update(step)
    else:
        _replay(scheduler, state, groups)


_LEARNT = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")  # what a plateau's scheduler has seen of scores


def _replay(scheduler: LRScheduler, state: Any, groups: Sequence[Group]) -> None:
    """Step a scheduler of PyTorch, from the values that the script gave, as often as it was stepped before."""
    for group, own in zip(scheduler.optimizer.param_groups, groups, strict=False):
        for field in _SCHEDULED & own.keys():
            if isinstance(group.get(field), Tensor):
                group[field].fill_(own[field])
            else:
                group[field] = copy.deepcopy(own[field])
    while "last_epoch" not in state:  # PyTorch's `ChainedScheduler` has none of its own
        state = state["_schedulers"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer was stepped
        for _ in range(state["last_epoch"]):
            scheduler.step()


def changes(saved: Sequence[Group], groups: Sequence[Group], but: set[str]) -> str:
    """What fields of param groups have become, such as `lr from 0.001 to 1e-06`; empty if nothing has changed."""
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
    """Whether it sets values as a function of the epoch or the update that it is told, as timm's schedulers do."""
    return hasattr(thing, "step_update") and hasattr(thing, "base_values") and not hasattr(thing, "lr_scheduler")
