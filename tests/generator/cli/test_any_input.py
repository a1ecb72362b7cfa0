"""For any input, and any damage of a project's state, a command prints one message and a documented exit code.

Each run draws other inputs (`PACCEL_SEED`, of the day); a failure names the draw, which is then kept below.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import sampled

from paccel.project.state import BASELINE_PATH, MANIFEST_PATH

Run = Callable[..., Any]
Make = Callable[..., Path]
Draw = random.Random

CODES = {0, 1, 2, 3, 4, 10}
QUICK, THOROUGH = 20, 300
DRAWS = [pytest.param(QUICK, id="few"), pytest.param(THOROUGH, id="many", marks=pytest.mark.slow)]

# No path that leads out of the test's own folder: `new` writes where it is told to.
WORDS = [
    "",
    "x",
    "a=b",
    "ema=true",
    "=",
    "--",
    "-",
    ".",
    "..",
    "train.py",
    "*",
    "~",
    "%s",
    "{{x}}",
    "\u4e2d",
    "\U0001f600",
]
ODD_TEXTS = [
    *WORDS,
    "\0",
    "a\0b",
    "\ud800",
    "caf\udce9",
    "x" * 300,
    "x" * 5000,
    "a\nb",
    "\x1b[31m",
    " ",
    "a/../../b",
    "C:x",
]
ODD_VALUES = [None, True, 0, -1, 1e999, 10**30, [], {}, [[]], {"a": {}}, "0" * 64, *ODD_TEXTS]


@pytest.fixture
def net(machine: None, paccel: Run, work: Path, template: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an edit, which is the working directory."""
    questions = {"ema": False, "data": ["digits", "mnist"]}
    demo = template({"train.py": "a = 1\nema = {{ cookiecutter.ema }}\n", "src/model.py": "x = 1\n"}, questions)
    assert paccel("new", "net", "--template", demo).code == 0
    (work / "net" / "train.py").write_text("a = 1\nema = False\nmine = 1\n")
    monkeypatch.chdir(work / "net")
    return work / "net"


# --- command lines -------------------------------------------------------------------------------------------------

OPTIONS = {
    "new": ["--template", "--set", "--answers", "--no-input", "--dry-run", "--json"],
    "list": ["--json"],
    "show": ["--json"],
    "diff": ["--upstream", "--exit-code", "--json"],
    "upgrade": [
        *("--check", "--dry-run", "--diff", "--continue", "--abort", "--undo"),
        *("--skip", "--restore", "--template", "--allow-dirty", "--json"),
    ],
    "set": ["--dry-run", "--diff", "--allow-dirty", "--json"],
    "adopt": ["--template", "--set", "--dry-run", "--json"],
    "doctor": ["--rebuild-baseline", "--json"],
    "completion": [],
}


def command_line(draw: Draw, known: Sequence[str]) -> list[str]:
    def value() -> str:
        kind = draw.random()
        if kind < 0.2:
            return f"{draw.choice(['ema', 'data', 'project_name', *ODD_TEXTS])}={draw.choice(ODD_TEXTS)}"
        return draw.choice(known if kind < 0.5 else ODD_TEXTS)

    command = draw.choice([*OPTIONS, draw.choice(ODD_TEXTS)])
    arguments = [command]
    for _ in range(draw.randrange(5)):
        option = draw.choice([*OPTIONS.get(command, ["--help"]), "--help", draw.choice(ODD_TEXTS)])
        arguments += [option] if draw.random() < 0.5 else [option, value()]
    return arguments + [value() for _ in range(draw.randrange(3))]


@pytest.mark.parametrize("count", DRAWS)
def test_any_command_line_ends_with_a_documented_code(
    paccel: Run, net: Path, work: Path, template: Make, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    (work / "answers.json").write_text('{"ema": true}')
    (work / "binary.toml").write_bytes(bytes(range(256)))
    demo = str(template(name="other"))
    known = [
        demo,
        str(net),
        str(work),
        str(work / "answers.json"),
        str(work / "binary.toml"),
        "src",
        "minimal",
        "new/one",
    ]
    kept = shutil.copytree(net, work / "kept")
    for number in range(count):
        arguments = command_line(Draw(f"{sampled.SEED} {number}"), known)
        outcome = paccel(*arguments)
        assert outcome.code in CODES, (number, arguments)
        if outcome.code > 1 and outcome.code != 10:
            assert outcome.out or outcome.err, (number, arguments)
        shutil.rmtree(net)
        shutil.copytree(kept, net)
        monkeypatch.chdir(net)


# --- damaged states ------------------------------------------------------------------------------------------------

COMMANDS = [
    *(["diff"], ["diff", "--upstream"], ["upgrade", "--check"], ["upgrade", "--dry-run", "--diff"], ["upgrade"]),
    *(["upgrade", "--continue"], ["upgrade", "--abort"], ["upgrade", "--undo"], ["upgrade", "src"]),
    *(["set", "ema=true"], ["doctor"], ["doctor", "--rebuild-baseline"], ["adopt", "--template", "DEMO"]),
    *(["adopt", "--dry-run", "--template", "DEMO"], ["new", ".", "--template", "DEMO"]),
]


def damaged_json(draw: Draw, content: bytes) -> bytes:
    """Replace any value by an odd one, or remove an entry."""
    data = json.loads(content)
    parent, key, node = {"": data}, "", data
    while isinstance(node, (dict, list)) and node and (parent[key] is data or draw.random() < 0.7):
        parent, key = node, draw.choice([*node]) if isinstance(node, dict) else draw.randrange(len(node))
        node = parent[key]
    if draw.random() < 0.2:
        del parent[key]
    elif isinstance(parent, dict) and draw.random() < 0.3:
        parent[draw.choice(ODD_TEXTS)] = parent.pop(key)
    else:
        parent[key] = draw.choice(ODD_VALUES)
    return json.dumps(data).encode()


def damaged_bytes(draw: Draw, content: bytes) -> bytes:
    at, to = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    kind = draw.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[to:]
    if kind == 2:
        return content[:at] + draw.randbytes(draw.randrange(1, 20)) + content[at:]
    if kind == 3:
        return content[:at] + content[:to] + content[at:]
    if kind == 4:
        return draw.choice([b"", b"\0" * 100, b"[" * 100_000, b'{"a":' * 100_000, b"<<<<<<< a\n" + content, b"\xff"])
    flipped = bytearray(content)
    for _ in range(draw.randrange(1, 4)):
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def damage(draw: Draw, path: Path) -> None:
    """Damage one file."""
    content = path.read_bytes()
    kind = draw.random()
    if kind < 0.1:
        path.unlink()
        if kind < 0.02:
            path.mkdir()
        elif kind < 0.04 and os.name != "nt":
            path.symlink_to(draw.choice(["nowhere", path.name, "..", "/dev/zero"]))
        elif kind < 0.06 and os.name != "nt":
            os.mkfifo(path)
        elif kind < 0.08:
            with path.open("wb") as file:
                file.truncate(2**28 + 1)  # a hole, which takes no room on the disk
    else:
        as_json = path.suffix == ".json" and kind < 0.7
        path.write_bytes(damaged_json(draw, content) if as_json else damaged_bytes(draw, content))


@pytest.mark.parametrize("count", DRAWS)
@pytest.mark.parametrize("unfinished", [False, True], ids=["finished", "unfinished"])
def test_any_damage_to_the_state_ends_with_a_documented_code(
    paccel: Run, net: Path, work: Path, monkeypatch: pytest.MonkeyPatch, count: int, unfinished: bool
) -> None:
    demo = work.parent / "templates" / "demo"
    paths = [MANIFEST_PATH, BASELINE_PATH]
    if unfinished:
        (demo / "{{cookiecutter.project_name}}" / "train.py").write_text(
            "a = 1\nema = {{ cookiecutter.ema }}\nnew = 1\n"
        )
        assert paccel("upgrade").code == 1
        paths = [".paccel/upgrade/journal.json", ".paccel/upgrade/journal.json", MANIFEST_PATH]
    kept = shutil.copytree(net, work / "kept")
    for number in range(count):
        draw = Draw(f"{sampled.SEED} {number}")
        damage(draw, net / draw.choice(paths))
        for command in draw.sample(COMMANDS, 2):
            outcome = paccel(*(str(demo) if part == "DEMO" else part for part in command))
            assert outcome.code in CODES, (number, command)
            assert "mine = 1" in (net / "train.py").read_text(), (number, command)
        monkeypatch.chdir(work)
        shutil.rmtree(net)
        shutil.copytree(kept, net)
        monkeypatch.chdir(net)
