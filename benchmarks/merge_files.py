"""Scenarios: who changed what; files that come, go and move; bytes and modes."""

from merge_base import Link, Mode, add_after, edit, text
from merge_words import EPOCHS, LR, OLD, RUN, STEP, Scenario, T, clean, conflict, either, train

# --- who changed what ----------------------------------------------------------------------------------------------

PLAIN: list[Scenario] = [
    clean("untouched project takes the template's edit", {}, train(LR), train(LR)),
    clean(
        "an edit and the template's edit of another file",
        train(LR),
        {"data.py": edit(text("data.py"), ("64", "128"))},
        {**train(LR), "data.py": edit(text("data.py"), ("64", "128"))},
    ),
    clean("edits far apart in one file", train(LR), train(STEP), train(LR, STEP)),
    conflict("the same line changed differently", train(LR), train((LR[0], "    learning_rate: float = 0.003\n"))),
    clean("the same edit on both sides", train(LR), train(LR), train(LR)),
    clean(
        "edits one line apart",
        train(EPOCHS),
        train(LR),
        train(EPOCHS, LR),
    ),
    clean(
        "the user deletes a block, the template edits elsewhere",
        train(("    if config.verbose:\n        print(model)\n", "")),
        train(LR),
        train(("    if config.verbose:\n        print(model)\n", ""), LR),
    ),
    conflict(
        "the user deletes a block that the template edits",
        train(("    if config.verbose:\n        print(model)\n", "")),
        train(("        print(model)\n", "        print(model, config)\n")),
    ),
    conflict(
        "both insert another statement at the same place",
        train(add_after("            loss.backward()\n", "            clip(model, 1.0)\n")),
        train(add_after("            loss.backward()\n", "            log_gradients(model)\n")),
    ),
    clean(
        "the template deletes a block, the user edits elsewhere",
        train(LR),
        train(("    if config.verbose:\n        print(model)\n", "")),
        train(LR, ("    if config.verbose:\n        print(model)\n", "")),
    ),
    conflict(
        "the template deletes a line that the user edits",
        train(("        print(model)\n", "        print(model.summary())\n")),
        train(("    if config.verbose:\n        print(model)\n", "")),
    ),
    clean("nothing changed", {}, {}, {}),
    clean("only the user changed something", train(LR), {}, train(LR)),
    clean(
        "non-ASCII names and text",
        train(('"""Train a digit classifier."""', '"""Trainiert, schön: 训练 🎉."""')),
        train(LR),
        train(('"""Train a digit classifier."""', '"""Trainiert, schön: 训练 🎉."""'), LR),
    ),
    clean(
        "a heading underlined with equals signs",
        {"README.md": text("README.md") + "\nMy notes\n=======\n\nRuns well.\n"},
        {"README.md": edit(text("README.md"), ("Train digits.", "Train digits on anything."))},
        {
            "README.md": edit(text("README.md"), ("Train digits.", "Train digits on anything."))
            + "\nMy notes\n=======\n\nRuns well.\n"
        },
    ),
    conflict(
        "prose of one paragraph rewritten on both sides",
        {"README.md": edit(text("README.md"), ("Train digits.", "Train my own digits."))},
        {"README.md": edit(text("README.md"), ("Train digits.", "Train digits, fast."))},
    ),
]

# --- files that come, go and move ------------------------------------------------------------------------------------

FILES: list[Scenario] = [
    clean(
        "the user deletes a file that the template leaves",
        {"utils.py": None},
        train(LR),
        {"utils.py": None, **train(LR)},
    ),
    clean(
        "the user deletes a file that the template edits",
        {"utils.py": None},
        {"utils.py": OLD + "\n\nEXTRA = 1\n"},
        {"utils.py": None},
    ),
    clean("the template deletes an untouched file", train(LR), {"utils.py": None}, {"utils.py": None, **train(LR)}),
    conflict(
        "the template deletes a file that the user edited",
        {"utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
        {"utils.py": None},
    ),
    clean(
        "the template renames an untouched file",
        {},
        {"utils.py": None, "helpers.py": OLD},
        {"utils.py": None, "helpers.py": OLD},
    ),
    clean(
        "the template renames a file that the user edited",
        {"utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
        {"utils.py": None, "helpers.py": OLD},
        {"utils.py": None, "helpers.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
    ),
    clean(
        "the template renames and edits a file that the user edited",
        {"utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
        {"utils.py": None, "helpers.py": edit(OLD, ("total / 1e6", "total / 1_000_000"))},
        {
            "utils.py": None,
            "helpers.py": edit(OLD, ("seed: int = 0", "seed: int = 7"), ("total / 1e6", "total / 1_000_000")),
        },
    ),
    clean(
        "the template moves an edited file into a folder",
        {"utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
        {"utils.py": None, "lib/utils.py": OLD},
        {"utils.py": None, "lib/utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
    ),
    clean(
        "the user renames a file that the template edits",
        {"utils.py": None, "my_utils.py": OLD},
        {"utils.py": edit(OLD, ("total / 1e6", "total / 1_000_000"))},
        {"utils.py": None, "my_utils.py": edit(OLD, ("total / 1e6", "total / 1_000_000"))},
    ),
    clean(
        "the user renames and edits a file that the template edits",
        {"utils.py": None, "my_utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"))},
        {"utils.py": edit(OLD, ("total / 1e6", "total / 1_000_000"))},
        {
            "utils.py": None,
            "my_utils.py": edit(OLD, ("seed: int = 0", "seed: int = 7"), ("total / 1e6", "total / 1_000_000")),
        },
    ),
    clean("the template adds a file", train(LR), {"extra.py": "VALUE = 1\n"}, {**train(LR), "extra.py": "VALUE = 1\n"}),
    conflict("both add the same file, differently", {"extra.py": "MINE = 1\nMORE = 2\n"}, {"extra.py": "THEIRS = 3\n"}),
    clean(
        "both add the same file, alike",
        {"extra.py": "VALUE = 1\n"},
        {"extra.py": "VALUE = 1\n"},
        {"extra.py": "VALUE = 1\n"},
    ),
    clean(
        "a module becomes a package",
        {},
        {"utils.py": None, "utils/__init__.py": "", "utils/seeds.py": OLD},
        {"utils.py": None, "utils/__init__.py": "", "utils/seeds.py": OLD},
    ),
    clean(
        "a file becomes a folder of that name",
        {},
        {"launch": None, "launch/run.sh": Mode("#!/bin/sh\npython train.py\n")},
        {"launch": None, "launch/run.sh": Mode("#!/bin/sh\npython train.py\n")},
        base={"launch": Mode("#!/bin/sh\npython train.py\n")},
    ),
    conflict(
        "a file that the user edited becomes a folder of that name",
        {"launch": Mode("#!/bin/sh\nmodule load cuda\npython train.py\n")},
        {"launch": None, "launch/local.sh": Mode("#!/bin/sh\necho local\n")},
        base={"launch": Mode("#!/bin/sh\npython train.py\n")},
    ),
    clean(
        "the template changes the case of a name",
        {},
        {"README.md": None, "Readme.md": text("README.md")},
        {"README.md": None, "Readme.md": text("README.md")},
    ),
    clean(
        "a user's own files stay",
        {"mine/notes.txt": "keep\n", "scratch.py": "x = (\n"},
        train(LR),
        {"mine/notes.txt": "keep\n", "scratch.py": "x = (\n", **train(LR)},
    ),
    conflict(
        "the user put a link where the template edits a file",
        {"utils.py": Link("mine/utils.py"), "mine/utils.py": "MINE = 1\n"},
        {"utils.py": edit(OLD, ("total / 1e6", "total / 1_000_000"))},
    ),
    clean(
        "an ignored file that the user edited is merged all the same",
        {
            ".gitignore": text(".gitignore") + "config.yaml\n",
            "config.yaml": edit(text("config.yaml"), ("size: 8", "size: 28")),
        },
        {"config.yaml": edit(text("config.yaml"), ("width: 128", "width: 256"))},
        {
            ".gitignore": text(".gitignore") + "config.yaml\n",
            "config.yaml": edit(text("config.yaml"), ("size: 8", "size: 28"), ("width: 128", "width: 256")),
        },
    ),
]

# --- bytes and modes -------------------------------------------------------------------------------------------------


def crlf(source: str) -> bytes:
    return source.replace("\n", "\r\n").encode()


NOEOL = text("config.yaml").rstrip("\n")
BYTES: list[Scenario] = [
    clean("the template makes a file executable", {}, {"run.sh": Mode(RUN)}, {"run.sh": Mode(RUN)}),
    clean(
        "the user makes a file executable, the template edits it",
        {"run.sh": Mode(RUN)},
        {"run.sh": edit(RUN, ("set -e", "set -eu"))},
        {"run.sh": Mode(edit(RUN, ("set -e", "set -eu")))},
    ),
    clean("the template changes a binary file", {}, {"logo.bin": b"\0\1NEW"}, {"logo.bin": b"\0\1NEW"}),
    conflict("both change a binary file", {"logo.bin": b"\0\1MINE"}, {"logo.bin": b"\0\1THEIRS"}),
    clean("the user's file has CRLF", {T: crlf(text(T))}, train(LR), {T: crlf(edit(text(T), LR))}),
    clean(
        "the user's edited file has CRLF", {T: crlf(edit(text(T), LR))}, train(STEP), {T: crlf(edit(text(T), LR, STEP))}
    ),
    clean(
        "the user's file lacks its final newline",
        {"config.yaml": NOEOL},
        {"config.yaml": edit(text("config.yaml"), ("size: 8", "size: 16"))},
        {"config.yaml": edit(NOEOL, ("size: 8", "size: 16"))},
    ),
    clean(
        "the user's file lacks its final newline, the template appends",
        {"config.yaml": NOEOL},
        {"config.yaml": text("config.yaml") + "shuffle: true\n"},
        {"config.yaml": NOEOL + "\nshuffle: true"},
    ),
    clean(
        "the user's editor added a byte order mark",
        {"config.yaml": b"\xef\xbb\xbf" + text("config.yaml").encode()},
        {"config.yaml": edit(text("config.yaml"), ("size: 8", "size: 16"))},
        {"config.yaml": b"\xef\xbb\xbf" + edit(text("config.yaml"), ("size: 8", "size: 16")).encode()},
    ),
    clean(
        "bytes that are not UTF-8",
        {"README.md": text("README.md").encode() + b"caf\xe9\n"},
        {"README.md": edit(text("README.md"), ("Train digits.", "Train anything."))},
        {"README.md": edit(text("README.md"), ("Train digits.", "Train anything.")).encode() + b"caf\xe9\n"},
    ),
    clean(
        "the user's file has a syntax error",
        train(("def main() -> None:", "def main( -> None:")),
        train(LR),
        train(("def main() -> None:", "def main( -> None:"), LR),
    ),
    either(
        "a notebook, both append a key to its metadata",
        {
            "notes.ipynb": edit(
                text("notes.ipynb"), ('  "nbformat_minor": 5\n', '  "nbformat_minor": 5,\n  "mine": 1\n')
            )
        },
        {
            "notes.ipynb": edit(
                text("notes.ipynb"), ('  "nbformat_minor": 5\n', '  "nbformat_minor": 5,\n  "theirs": 2\n')
            )
        },
        {
            "notes.ipynb": edit(
                text("notes.ipynb"),
                ('  "nbformat_minor": 5\n', '  "nbformat_minor": 5,\n  "mine": 1,\n  "theirs": 2\n'),
            )
        },
    ),
]
