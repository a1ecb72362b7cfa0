"""A project of 0.1.0 with typical edits takes the new wording without a conflict, and keeps every edit."""

from pathlib import Path

import pytest
from support.generated import TEMPLATES, rendered
from support.released import RELEASED, unpacked
from support.typical_edits import EVERYWHERE, OWN, edit

from paccel.catalog.catalog import DEFAULT_TEMPLATE
from paccel.files.tree import read_tree, write_tree
from paccel.upgrade.upgrade import upgrade


@pytest.mark.parametrize(
    "name", [name if name == DEFAULT_TEMPLATE else pytest.param(name, marks=pytest.mark.slow) for name in TEMPLATES]
)
def test_typical_edits_meet_the_new_wording_without_a_conflict(name: str, tmp_path: Path) -> None:
    edits = EVERYWHERE + OWN[name]
    root = unpacked(RELEASED / "0.1.0" / f"{name}-default", tmp_path)
    edit(root, edits)
    outcome = upgrade(root)
    assert (outcome.state, outcome.conflicts) == ("done", ())
    expected = tmp_path / "expected"
    write_tree(expected, rendered(name, {}))
    edit(expected, edits)
    assert read_tree(root) == read_tree(expected)
