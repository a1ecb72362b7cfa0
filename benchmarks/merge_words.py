"""The words in which merge scenarios are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from merge_base import Content, edit, text


@dataclass(frozen=True)
class Scenario:
    """One edit, one change, one outcome.

    Attributes:
        name: A sentence.
        ours: What the user changed.
        theirs: What the template changed.
        outcome: See the module.
        result: What is to come out, as changes of `BASE`, for "clean" and for the right merge of "either".
        also: Results as good as `result`.
        base: Changes of `BASE` that user and template both start from.
    """

    name: str
    ours: Mapping[str, Content]
    theirs: Mapping[str, Content]
    outcome: Literal["clean", "conflict", "either"]
    result: Mapping[str, Content] = field(default_factory=dict)
    also: tuple[Mapping[str, Content], ...] = ()
    base: Mapping[str, Content] = field(default_factory=dict)


T = "train.py"
LR = ("    learning_rate: float = 0.001\n", "    learning_rate: float = 0.01\n")
EPOCHS = ("    epochs: int = 5\n", "    epochs: int = 50\n")
STEP = ("            optimizer.step()\n", "            optimizer.step()\n            scheduler.step()\n")


def clean(
    name: str, ours: Mapping[str, Content], theirs: Mapping[str, Content], result: Mapping[str, Content], **more: object
) -> Scenario:
    return Scenario(name, ours, theirs, "clean", result, **more)  # type: ignore[arg-type]


def conflict(name: str, ours: Mapping[str, Content], theirs: Mapping[str, Content], **more: object) -> Scenario:
    return Scenario(name, ours, theirs, "conflict", **more)  # type: ignore[arg-type]


def either(
    name: str,
    ours: Mapping[str, Content],
    theirs: Mapping[str, Content],
    result: Mapping[str, Content],
    also: tuple[Mapping[str, Content], ...] = (),
    **more: object,
) -> Scenario:
    return Scenario(name, ours, theirs, "either", result, also, **more)  # type: ignore[arg-type]


def train(*edits: tuple[str, str]) -> dict[str, Content]:
    return {T: edit(text(T), *edits)}


OLD = text("utils.py")
RUN = text("run.sh")
IMPORT = "from torch.optim import SGD\n"
MAIN = "def main() -> None:\n"
