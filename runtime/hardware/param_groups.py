"""The param groups of optimizers."""

from typing import Any

from torch import Tensor


def has_groups(thing: Any) -> bool:
    """Whether it is an optimizer, or a wrapper around one."""
    return isinstance(getattr(thing, "param_groups", None), list)


def set_field(group: dict[str, Any], field: str, value: Any) -> None:
    """Set a field of a param group. A tensor is changed in place, as CUDA graphs refer to it."""
    if isinstance(group.get(field), Tensor):
        group[field].fill_(value)
    else:
        group[field] = value
