"""`AGENTS.md`: short, in every project unless an answer turns it off, and what it names exists."""

import re

import pytest
from support.generated import TEMPLATES, rendered
from support.quick import quick_first

from paccel.cli.main import main


@pytest.mark.parametrize("name", quick_first(TEMPLATES))
def test_it_is_short_and_names_what_exists(name: str) -> None:
    tree = rendered(name, {})
    text = tree["AGENTS.md"].content.decode()
    assert 40 < text.count("\n") < 60
    assert set(re.findall(r"paccel ([a-z]+)", text)) - {"runtime"} <= {*main.commands}
    for script in re.findall(r"python (\w+\.py)", text):
        assert script in tree
    options = {option for command in main.commands.values() for param in command.params for option in param.opts}
    assert set(re.findall(r"paccel .*?(--\w+)", text)) <= options


def test_an_answer_turns_it_off() -> None:
    assert "AGENTS.md" not in rendered("minimal", {"agents_md": "false"})
