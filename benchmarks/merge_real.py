"""Scenarios of the default template's own train.py: people's edits of it, and then a feature that is turned on.

The one right merge is the edit made to what the template gives with the feature: the two touch different statements.
"""

from functools import cache

from merge_base import Content
from merge_edits import EDITS
from merge_words import Scenario, T

from paccel.catalog.catalog import load_template
from paccel.catalog.questions import Answer, resolve_answers
from paccel.render.render import render

FEATURES: dict[str, dict[str, Answer]] = {
    "the EMA": {"ema": True},
    "early stopping": {"early_stopping": True},
    "a tracker": {"tracker": "wandb"},
}


@cache
def source(feature: str = "", path: str = T) -> str:
    """A file of the default template, with one feature or without."""
    template = load_template("image-classification")
    answers = resolve_answers(template, FEATURES.get(feature, {}), project_name="my-project")
    return render(template, answers)[path].content.decode()


def _scenario(edit: str, feature: str) -> Scenario:
    change, outcome = EDITS[edit]
    base: dict[str, Content] = {T: source()}
    try:
        result: dict[str, Content] = {T: change(source(feature))}
    except AssertionError:  # the feature changed what the edit looks for: then only a conflict is right
        return Scenario(f"{edit}, then {feature}", {T: change(source())}, {T: source(feature)}, "conflict", base=base)
    # What the feature adds may keep the template's quotes: nobody has edited it.
    edited = dict(zip(source().splitlines(), change(source()).splitlines(), strict=False))
    kept = "".join(f"{edited.get(line, line)}\n" for line in source(feature).splitlines())
    also = ({T: kept},) if edit == "single quotes" else ()
    return Scenario(f"{edit}, then {feature}", {T: change(source())}, {T: source(feature)}, outcome, result, also, base)


REAL: list[Scenario] = [_scenario(edit, feature) for edit in EDITS if edit != "nothing" for feature in FEATURES]
