"""Attributes that a class has lost: found by name, and only if the name was the project's."""

import pytest

from paccel.check.blame import Trees, explained
from paccel.check.members import lost_members
from paccel.files.tree import File

NET = "class Net:\n    def __init__(self):\n        self.head = 1\n"
RENAMED = NET.replace("head", "classifier")


def lost(
    mine: str, before: str = NET, after: str = RENAMED, theirs: dict[str, str] | None = None
) -> list[tuple[str, int]]:
    """The findings if the template changes `net.py`, and the user has a file of their own."""
    trees = Trees(
        *(
            {path: File(text.encode()) for path, text in files.items()}
            for files in (
                {"net.py": before, "mine.py": mine},
                {"net.py": after} | (theirs or {}),
                {"net.py": after, "mine.py": mine} | (theirs or {}),
            )
        )
    )
    found = lost_members(trees)
    assert all((cause := explained(one, trees).cause) and cause.path == "net.py" for one in found)
    return [(finding.path, finding.line) for finding in found]


@pytest.mark.parametrize(
    "mine",
    [
        "def f(net):\n    return net.head\n",
        "from net import Net\nNet().head.weight\n",
        "import net\nnet.Net().head\n",
        "class Other:\n    def f(self):\n        return self.net.head(1)\n",
    ],
)
def test_an_attribute_that_its_class_has_lost_is_found(mine: str) -> None:
    assert [path for path, _ in lost(mine)] == ["mine.py"]


@pytest.mark.parametrize(
    "mine",
    [
        "import git\ngit.head\n",
        "import git\nrepository = git.Repo('.')\nrepository.head\n",
        "from pandas import read_csv\nread_csv('a').head()\n",
        "def f(net):\n    return net.head if hasattr(net, 'head') else None\n",
        "class Own:\n    head = 1\n\n\ndef f(own):\n    return own.head\n",
        "class Own:\n    head: int\n\n\ndef f(own):\n    return own.head\n",
        "class Own:\n    def head(self): ...\n\n\nOwn().head()\n",
        "def f(net):\n    net.head = 2\n    return net.head\n",
        "def f(net):\n    return net.shape\n",
        "def f(net:\n",
    ],
)
def test_an_attribute_that_may_be_somebody_elses_is_none(mine: str) -> None:
    assert lost(mine) == []


def test_what_the_template_reads_without_having_it_is_not_lost() -> None:
    mine = "def f(net):\n    return net.head\n"
    assert lost(mine, theirs={"more.py": "def g(table):\n    return table.head\n"}) == []
    assert lost(mine, before="", after="x = 1\n") == []
