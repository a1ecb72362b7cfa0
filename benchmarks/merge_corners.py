"""Corners of the languages that a project is written in; each expectation was written before any tool had run it.

Two were mistaken and are mended: arguments of one signature that an unchanged line parts merge rightly, and a `#!` line,
which stood in the last scenario, makes what paccel renders executable.
"""

from merge_base import Content, add_after, edit, text
from merge_choices import indented
from merge_hostile import called, change
from merge_words import IMPORT, MAIN, STEP, Scenario, T, clean, conflict, either, train

Base = dict[str, Content]


def utils(more: str) -> Base:
    """`utils.py` with more at its end."""
    return {"utils.py": text("utils.py") + "\n\n" + more}


MATCH = utils(
    "def unit(name):\n    match name:\n        case 'loss':\n            return 'nats'\n        case 'time' | 'wait':\n"
    "            return 's'\n        case _:\n            return ''\n"
)
ELSE = ("        case _:\n            return ''\n", "        case _:\n            raise KeyError(name)\n")
SIZE = ("        case _:\n", "        case 'size':\n            return 'B'\n        case _:\n")
CACHED = utils("@lru_cache\ndef squares(n):\n    return [i * i for i in range(n)]\n")
WALRUS = utils(
    "def first(items):\n    rest = iter(items)\n    item = next(rest, None)\n    if item:\n        return item\n    return 0\n"
)
GREETING = utils('MESSAGE = (\n    f"{1 + 1} runs "\n    f"of {2 * 2} steps "\n    "each"\n)\n')
ALIAS = utils("Pair = tuple[int, int]\nPath = str\n")
COMMENTED = utils("# Half of it is enough.\nSHARE = 0.5\n\nLIMIT = 10  # seconds\n")
TRIED = utils("def read(path):\n    try:\n        return open(path).read()\n    except OSError:\n        return ''\n")
BRANCHES = utils(
    "def kind(n):\n    if n < 0:\n        return 'below'\n    elif n > 9:\n        return 'above'\n    return 'inside'\n"
)
SIGNED = utils("def scale(\n    value,\n    factor=1.0,\n    offset=0.0,\n):\n    return value * factor + offset\n")
OPTIONAL = {
    "pyproject.toml": text("pyproject.toml")
    + '\n[project.optional-dependencies]\ndev = ["pytest>=8"]\ndocs = ["mkdocs"]\ngpu = ["triton[tests]>=3"]\n'
}
ANCHORS = {
    "config.yaml": "defaults: &defaults\n  workers: 2\n  size: 8\n\ntrain:\n  <<: *defaults\n  shuffle: true\n\neval:\n  size: 64\n"
}
MAKEFILE = {"Makefile": "PYTHON = python\n\ntrain:\n\t$(PYTHON) train.py\n\ntest:\n\t$(PYTHON) -m pytest\n"}
TABLE = {
    "README.md": "# Digits\n\n| model | score |\n|---|---|\n| small | 0.97 |\n| large | 0.98 |\n\nMeasured once.\n"
}
NOTEBOOK = {
    "notes.ipynb": '{\n "cells": [\n  {\n   "cell_type": "code",\n   "execution_count": null,\n   "outputs": [],\n   "source": [\n'
    '    "a = 1"\n   ]\n  },\n  {\n   "cell_type": "code",\n   "execution_count": null,\n   "outputs": [],\n   "source": [\n'
    '    "a + 1"\n   ]\n  }\n ],\n "nbformat": 4\n}\n'
}
RAN = (
    '   "execution_count": null,\n   "outputs": [],\n   "source": [\n    "a + 1"\n',
    '   "execution_count": 2,\n   "outputs": [\n    {\n     "output_type": "execute_result"\n    }\n   ],\n   "source": [\n'
    '    "a + 1"\n',
)
LOSS = text(T)[text(T).index("def compute_loss") : text(T).index("def accuracy")]
SCORE = text(T)[text(T).index("def accuracy") : text(T).index(MAIN)]
SPLIT = {
    T: edit(text(T), (SCORE, ""), (IMPORT, "from torch.optim import SGD\n\nfrom scores import accuracy\n")),
    "scores.py": SCORE,
}
LAST = text("utils.py")[text("utils.py").index("def in_millions") :]


CORNERS: list[Scenario] = [
    # --- Python -------------------------------------------------------------------------------------------------------
    clean(
        "the user edits one case of a match, the template the pattern of another",
        change(MATCH, ("            return 'nats'\n", "            return 'bits'\n")),
        change(MATCH, ("        case 'time' | 'wait':\n", "        case 'time' | 'wait' | 'step':\n")),
        change(
            MATCH,
            ("            return 'nats'\n", "            return 'bits'\n"),
            ("        case 'time' | 'wait':\n", "        case 'time' | 'wait' | 'step':\n"),
        ),
        base=MATCH,
    ),
    either(
        "the user adds a case above the last, in which the template raises",
        change(MATCH, SIZE),
        change(MATCH, ELSE),
        change(MATCH, (ELSE[0], "        case 'size':\n            return 'B'\n" + ELSE[1])),
        base=MATCH,
    ),
    either(
        "the user puts a decorator above one to which the template gives an argument",
        change(CACHED, ("@lru_cache\n", "@timed\n@lru_cache\n")),
        change(CACHED, ("@lru_cache\n", "@lru_cache(maxsize=8)\n")),
        change(CACHED, ("@lru_cache\n", "@timed\n@lru_cache(maxsize=8)\n")),
        base=CACHED,
    ),
    conflict(
        "the user makes a function a coroutine and awaits it, the template adds a call of it",
        train(
            (MAIN, "async " + MAIN),
            ("def accuracy(model, loader):\n", "async def accuracy(model, loader):\n"),
            ("        score = accuracy(model, eval_loader)\n", "        score = await accuracy(model, eval_loader)\n"),
            ("    main()\n", "    asyncio.run(main())\n"),
        ),
        train(called("accuracy(model, train_loader)")),
    ),
    either(
        "the user folds an assignment into the test below, the template edits the line above",
        change(WALRUS, ("    item = next(rest, None)\n    if item:\n", "    if item := next(rest, None):\n")),
        change(WALRUS, ("    rest = iter(items)\n", "    rest = iter(sorted(items))\n")),
        change(
            WALRUS,
            ("    rest = iter(items)\n", "    rest = iter(sorted(items))\n"),
            ("    item = next(rest, None)\n    if item:\n", "    if item := next(rest, None):\n"),
        ),
        base=WALRUS,
    ),
    conflict(
        "both edit one text, in different f-strings of it",
        change(GREETING, ('    f"{1 + 1} runs "\n', '    f"{1 + 2} runs "\n')),
        change(GREETING, ('    f"of {2 * 2} steps "\n', '    f"of {2 * 4:>{3}} steps "\n')),
        base=GREETING,
    ),
    either(
        "the user annotates an alias, the template adds one below it",
        change(ALIAS, ("Pair = tuple[int, int]\n", "Pair: TypeAlias = tuple[int, int]\n")),
        change(ALIAS, ("Path = str\n", "Triple = tuple[int, int, int]\nPath = str\n")),
        change(
            ALIAS,
            (
                "Pair = tuple[int, int]\nPath = str\n",
                "Pair: TypeAlias = tuple[int, int]\nTriple = tuple[int, int, int]\nPath = str\n",
            ),
        ),
        base=ALIAS,
    ),
    clean(
        "syntax of a Python newer than this one, the template edits elsewhere",
        change(ALIAS, ("Path = str\n", "type Path = str\n")),
        change(ALIAS, ('"""Small things."""\n', '"""Small things, and types."""\n')),
        change(
            ALIAS, ("Path = str\n", "type Path = str\n"), ('"""Small things."""\n', '"""Small things, and types."""\n')
        ),
        base=ALIAS,
    ),
    either(
        "the user edits the documentation of a function that the template puts into a block",
        train(('    """The mean loss of a batch."""\n', '    """The mean loss of a batch, in nats."""\n')),
        train((LOSS, indented(LOSS.rstrip("\n") + "\n", "if True:\n") + "\n\n")),
        train(
            (
                LOSS,
                indented(edit(LOSS, ("of a batch.", "of a batch, in nats.")).rstrip("\n") + "\n", "if True:\n")
                + "\n\n",
            )
        ),
    ),
    either(
        "the user edits the comment above a value that the template changes",
        change(COMMENTED, ("# Half of it is enough.\n", "# A half was enough for us.\n")),
        change(COMMENTED, ("SHARE = 0.5\n", "SHARE = 0.4\n")),
        change(COMMENTED, ("# Half of it is enough.\nSHARE = 0.5\n", "# A half was enough for us.\nSHARE = 0.4\n")),
        base=COMMENTED,
    ),
    conflict(
        "both edit the comment behind one value",
        change(COMMENTED, ("LIMIT = 10  # seconds\n", "LIMIT = 10  # seconds, measured\n")),
        change(COMMENTED, ("LIMIT = 10  # seconds\n", "LIMIT = 10  # s\n")),
        base=COMMENTED,
    ),
    either(
        "the user adds a finally, the template another except",
        change(TRIED, add_after("        return ''\n", "    finally:\n        print(path)\n")),
        change(TRIED, add_after("        return ''\n", "    except ValueError:\n        return None\n")),
        change(
            TRIED,
            add_after(
                "        return ''\n",
                "    except ValueError:\n        return None\n    finally:\n        print(path)\n",
            ),
        ),
        base=TRIED,
    ),
    either(
        "both add a branch to one chain",
        change(BRANCHES, ("    return 'inside'\n", "    elif n == 5:\n        return 'middle'\n    return 'inside'\n")),
        change(BRANCHES, ("    return 'inside'\n", "    elif n == 0:\n        return 'edge'\n    return 'inside'\n")),
        change(
            BRANCHES,
            (
                "    return 'inside'\n",
                "    elif n == 5:\n        return 'middle'\n    elif n == 0:\n        return 'edge'\n    return 'inside'\n",
            ),
        ),
        base=BRANCHES,
    ),
    clean(
        "the user changes a default of a signature to which the template adds an argument",
        change(SIGNED, ("    factor=1.0,\n", "    factor=2.0,\n")),
        change(SIGNED, ("    offset=0.0,\n", "    offset=0.0,\n    clip=None,\n")),
        change(
            SIGNED,
            ("    factor=1.0,\n", "    factor=2.0,\n"),
            ("    offset=0.0,\n", "    offset=0.0,\n    clip=None,\n"),
        ),
        base=SIGNED,
    ),
    conflict(
        "both add one function, with other bodies, at one place",
        train((MAIN, "def log(text):\n    print(text)\n\n\n" + MAIN)),
        train((MAIN, 'def log(text):\n    print("log:", text)\n\n\n' + MAIN)),
    ),
    conflict(
        "both add one function, with other bodies, at different places",
        {
            "utils.py": edit(
                text("utils.py"), ("def seed_everything", "def log(text):\n    print(text)\n\n\ndef seed_everything")
            )
        },
        {"utils.py": text("utils.py") + '\n\ndef log(text):\n    print("log:", text)\n'},
    ),
    conflict(
        "the user removes an import with its use, the template uses it anew",
        train(("import random\n", ""), ("    random.seed(config.seed)\n", "")),
        train(add_after("        model.train()\n", "        random.shuffle(order)\n")),
    ),
    conflict(
        "the user adds a function after the last one, which the template deletes",
        {"utils.py": text("utils.py") + "\n\ndef in_thousands(total):\n    return in_millions(total * 1000)\n"},
        {"utils.py": edit(text("utils.py"), ("\n\n" + LAST, ""))},
    ),
    # --- more than one file -------------------------------------------------------------------------------------------
    clean(
        "the template splits a file in two, the user edits what stays and calls what went",
        train(STEP, called("accuracy(model, train_loader)")),
        SPLIT,
        {**SPLIT, T: edit(str(SPLIT[T]), STEP, called("accuracy(model, train_loader)"))},
    ),
    conflict(
        "the template splits a file in two, the user edits what went",
        train(("    return right / total\n", "    return 100 * right / total\n")),
        SPLIT,
    ),
    # --- other languages ------------------------------------------------------------------------------------------------
    conflict(
        "the user asks for an extra of a requirement that the template raises",
        {"requirements.txt": "numpy>=1.26\ntorch[opt-einsum]>=2.6\n"},
        {"requirements.txt": "numpy>=1.26\ntorch>=2.7\n"},
    ),
    either(
        "both add requirements with markers and extras at the end",
        {"requirements.txt": text("requirements.txt") + 'tomli>=2; python_version < "3.11"\n'},
        {"requirements.txt": text("requirements.txt") + 'uvloop[tests]>=0.19 ; sys_platform == "linux"\n'},
        {
            "requirements.txt": text("requirements.txt")
            + 'tomli>=2; python_version < "3.11"\nuvloop[tests]>=0.19 ; sys_platform == "linux"\n'
        },
    ),
    either(
        "both add one requirement, under other markers",
        {"requirements.txt": text("requirements.txt") + 'triton>=3; sys_platform == "linux"\n'},
        {"requirements.txt": text("requirements.txt") + 'triton>=2; sys_platform == "win32"\n'},
        {
            "requirements.txt": text("requirements.txt")
            + 'triton>=3; sys_platform == "linux"\ntriton>=2; sys_platform == "win32"\n'
        },
    ),
    either(
        "each adds to another of two arrays that stand below one another",
        change(OPTIONAL, ('dev = ["pytest>=8"]\n', 'dev = ["pytest>=8", "ruff"]\n')),
        change(OPTIONAL, ('docs = ["mkdocs"]\n', 'docs = ["mkdocs", "mkdocstrings[python]"]\n')),
        change(
            OPTIONAL,
            (
                'dev = ["pytest>=8"]\ndocs = ["mkdocs"]\n',
                'dev = ["pytest>=8", "ruff"]\ndocs = ["mkdocs", "mkdocstrings[python]"]\n',
            ),
        ),
        base=OPTIONAL,
    ),
    either(
        "both add to one array of requirements with extras",
        change(OPTIONAL, ('gpu = ["triton[tests]>=3"]\n', 'gpu = ["triton[tests]>=3", "cupy"]\n')),
        change(OPTIONAL, ('gpu = ["triton[tests]>=3"]\n', 'gpu = ["triton[tests]>=3", "nvidia-ml-py>=12"]\n')),
        change(OPTIONAL, ('gpu = ["triton[tests]>=3"]\n', 'gpu = ["triton[tests]>=3", "cupy", "nvidia-ml-py>=12"]\n')),
        base=OPTIONAL,
    ),
    clean(
        "the user edits what an anchor of YAML names, the template uses it once more",
        change(ANCHORS, ("  workers: 2\n", "  workers: 8\n")),
        change(ANCHORS, ("eval:\n", "eval:\n  <<: *defaults\n")),
        change(ANCHORS, ("  workers: 2\n", "  workers: 8\n"), ("eval:\n", "eval:\n  <<: *defaults\n")),
        base=ANCHORS,
    ),
    conflict(
        "the user removes an anchor of YAML that the template uses once more",
        change(ANCHORS, ("defaults: &defaults\n", "defaults:\n"), ("  <<: *defaults\n", "  workers: 2\n")),
        change(ANCHORS, ("eval:\n", "eval:\n  <<: *defaults\n")),
        base=ANCHORS,
    ),
    clean(
        "the user sets a variable of a Makefile, the template edits a recipe",
        change(MAKEFILE, ("PYTHON = python\n", "PYTHON = python3\n")),
        change(MAKEFILE, ("\t$(PYTHON) -m pytest\n", "\t$(PYTHON) -m pytest -q\n")),
        change(
            MAKEFILE,
            ("PYTHON = python\n", "PYTHON = python3\n"),
            ("\t$(PYTHON) -m pytest\n", "\t$(PYTHON) -m pytest -q\n"),
        ),
        base=MAKEFILE,
    ),
    either(
        "the user adds a line to the last recipe of a Makefile, the template a target below it",
        {"Makefile": str(MAKEFILE["Makefile"]) + "\t$(PYTHON) -m mypy .\n"},
        {"Makefile": str(MAKEFILE["Makefile"]) + "\nlint:\n\truff check .\n"},
        {"Makefile": str(MAKEFILE["Makefile"]) + "\t$(PYTHON) -m mypy .\n\nlint:\n\truff check .\n"},
        base=MAKEFILE,
    ),
    either(
        "both add a row at the end of a table in Markdown",
        change(TABLE, add_after("| large | 0.98 |\n", "| mine | 0.99 |\n")),
        change(TABLE, add_after("| large | 0.98 |\n", "| huge | 0.985 |\n")),
        change(TABLE, add_after("| large | 0.98 |\n", "| mine | 0.99 |\n| huge | 0.985 |\n")),
        (change(TABLE, add_after("| large | 0.98 |\n", "| huge | 0.985 |\n| mine | 0.99 |\n")),),
        base=TABLE,
    ),
    conflict(
        "the user edits a row of a table in Markdown to which the template adds a column",
        change(TABLE, ("| small | 0.97 |\n", "| small | 0.975 |\n")),
        change(
            TABLE,
            ("| model | score |\n|---|---|\n", "| model | score | time |\n|---|---|---|\n"),
            ("| small | 0.97 |\n| large | 0.98 |\n", "| small | 0.97 | 1 s |\n| large | 0.98 | 9 s |\n"),
        ),
        base=TABLE,
    ),
    clean(
        "the user has run a notebook, the template edits another cell of it",
        change(NOTEBOOK, RAN),
        change(NOTEBOOK, ('    "a = 1"\n', '    "a = 10"\n')),
        change(NOTEBOOK, RAN, ('    "a = 1"\n', '    "a = 10"\n')),
        base=NOTEBOOK,
    ),
    clean(
        "the user's last line has no end, the template adds lines at the top",
        {"run.sh": text("run.sh") + "echo done"},
        {"run.sh": "# Runs.\n" + text("run.sh")},
        {"run.sh": "# Runs.\n" + text("run.sh") + "echo done"},
    ),
]
