"""Scenarios made to break a merge; each expectation was written before any tool had run it."""

from merge_base import add_after, edit, text
from merge_choices import BLOCK, LOSS_FN, indented
from merge_words import IMPORT, MAIN, STEP, Scenario, T, clean, conflict, either, train

ARGPARSE = "import argparse\n"
CALL = (
    "    for epoch in range(config.epochs):\n",
    "    print({})\n    for epoch in range(config.epochs):\n",
)
SCORE_DEF = "def accuracy(model, loader):\n"
GUARD = 'if __name__ == "__main__":\n    main()\n'
EPOCH_LOOP = text(T)[text(T).index("    for epoch in range") : text(T).index("\n\nif __name__")] + "\n"
MATCH = {
    "utils.py": text("utils.py")
    + '\n\ndef unit(name):\n    match name:\n        case "loss":\n            return "nats"\n        case _:\n            return ""\n'
}
CASE_MINE = '        case "time":\n            return "s"\n'
CASE_THEIRS = '        case "memory":\n            return "MiB"\n'
DICT = {
    "utils.py": text("utils.py")
    + '\n\nUNITS = {\n    "loss": "nats",\n    "time": "s",\n    "memory": "MiB",\n    "size": "B",\n}\n'
}
NOTEBOOK = {
    "notes.ipynb": '{\n "cells": [\n  {\n   "cell_type": "code",\n   "metadata": {},\n   "source": [\n    "a = 1\\n",\n'
    '    "print(a)"\n   ]\n  },\n  {\n   "cell_type": "code",\n   "metadata": {},\n   "source": [\n    "b = 2"\n   ]\n  }\n'
    ' ],\n "nbformat": 4\n}\n'
}
UNFOLDED = (
    "    optimizer = SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)\n",
    "    optimizer = SGD(\n        model.parameters(),\n        lr=config.learning_rate,\n    )\n",
)
DESCRIBE = (MAIN, "def describe(parser):\n    print(parser)\n\n\n" + MAIN)
NEXT_CELL = '  {\n   "cell_type": "code",\n   "metadata": {},\n   "source": [\n    "c = 3"\n   ]\n  },\n'


def change(base: dict[str, object], *edits: tuple[str, str]) -> dict[str, str]:
    """Edits of the one file of `base`."""
    ((path, content),) = base.items()
    return {path: edit(str(content), *edits)}


def called(call: str) -> tuple[str, str]:
    return CALL[0], CALL[1].format(call)


HOSTILE: list[Scenario] = [
    # --- names --------------------------------------------------------------------------------------------------------
    either(
        "both import one module, under other names",
        train(add_after(ARGPARSE, "import numpy as np\n")),
        train(add_after(ARGPARSE, "import numpy\n")),
        train(add_after(ARGPARSE, "import numpy as np\nimport numpy\n")),
        (train(add_after(ARGPARSE, "import numpy\nimport numpy as np\n")),),
    ),
    conflict(
        "both import another thing under one name",
        train(add_after(ARGPARSE, "from mine import helper\n")),
        train(add_after(ARGPARSE, "from theirs import helper\n")),
    ),
    conflict(
        "both import another thing under one name, at different places",
        train(add_after(ARGPARSE, "from mine import schedule\n"), called("schedule")),
        train(
            add_after(IMPORT, "from theirs import schedule\n"),
            add_after("        model.eval()\n", "        schedule()\n"),
        ),
    ),
    conflict(
        "the template renames a local variable, the user reads it in a new line",
        train(add_after("        total += len(labels)\n", "    print(total)\n")),
        train(
            ("    right = total = 0\n", "    right = count = 0\n"),
            ("        total += len(labels)\n", "        count += len(labels)\n"),
            ("    return right / total\n", "    return right / count\n"),
        ),
    ),
    conflict(
        "a local is renamed, the user reads it far away, and another function has a local of that name",
        train(DESCRIBE, called("parser.prog")),
        train(
            DESCRIBE,
            ("    parser = argparse.ArgumentParser()\n", "    cli = argparse.ArgumentParser()\n"),
            ('    parser.add_argument("--epochs"', '    cli.add_argument("--epochs"'),
            ("    args = parser.parse_args()\n", "    args = cli.parse_args()\n"),
        ),
        base=train(DESCRIBE),
    ),
    conflict(
        "the template renames a variable everywhere, the user edits one of its lines",
        train(("    model = Classifier(width=128, depth=2)\n", "    model = Classifier(width=256, depth=2)\n")),
        {T: text(T)[: text(T).index(MAIN)] + text(T)[text(T).index(MAIN) :].replace("model", "net")},
    ),
    # --- signatures ---------------------------------------------------------------------------------------------------
    conflict(
        "the user adds a required argument to a function, the template adds a call of it",
        train(
            (SCORE_DEF, "def accuracy(model, loader, device):\n"),
            ("accuracy(model, eval_loader)", 'accuracy(model, eval_loader, "cpu")'),
        ),
        train(called("accuracy(model, train_loader)")),
    ),
    conflict(
        "the template renames an argument, the user names it in a new call",
        train(called("accuracy(model=model, loader=train_loader)")),
        train(
            (SCORE_DEF, "def accuracy(model, batches):\n"),
            ("    for images, labels in loader:\n", "    for images, labels in batches:\n"),
        ),
    ),
    clean(
        "the user adds an argument with a default, the template adds a call without it",
        train((SCORE_DEF, "def accuracy(model, loader, top=1):\n")),
        train(called("accuracy(model, train_loader)")),
        train((SCORE_DEF, "def accuracy(model, loader, top=1):\n"), called("accuracy(model, train_loader)")),
    ),
    clean(
        "the user makes main a coroutine, the template adds a statement to it",
        train((MAIN, "async def main() -> None:\n"), (GUARD, 'if __name__ == "__main__":\n    asyncio.run(main())\n')),
        train(STEP),
        train(
            (MAIN, "async def main() -> None:\n"),
            (GUARD, 'if __name__ == "__main__":\n    asyncio.run(main())\n'),
            STEP,
        ),
    ),
    either(
        "a decorator is added above a line that the template edits",
        train((SCORE_DEF, "@no_grad()\n" + SCORE_DEF)),
        train((SCORE_DEF, "def accuracy(model, loader) -> float:\n")),
        train((SCORE_DEF, "@no_grad()\ndef accuracy(model, loader) -> float:\n")),
    ),
    conflict(
        "both add a decorator to one function",
        train((SCORE_DEF, "@no_grad()\n" + SCORE_DEF)),
        train((SCORE_DEF, "@cache\n" + SCORE_DEF)),
    ),
    # --- moved, removed, wrapped ----------------------------------------------------------------------------------------
    conflict(
        "the user moves a function to another file, the template edits it",
        {T: edit(text(T), (LOSS_FN, ""), (IMPORT, IMPORT + "from losses import compute_loss\n")), "losses.py": LOSS_FN},
        train(("    logits = model(images)\n", "    logits = model(images).float()\n")),
    ),
    conflict(
        "the template moves a function to another file, the user edits it",
        train(("    logits = model(images)\n", "    logits = model(images).float()\n")),
        {T: edit(text(T), (LOSS_FN, ""), (IMPORT, IMPORT + "from losses import compute_loss\n")), "losses.py": LOSS_FN},
    ),
    conflict(
        "the user deletes a field that the template documents",
        train(("    momentum: float = 0.9\n", ""), (", momentum=config.momentum", "")),
        train(("    momentum: float = 0.9\n", "    momentum: float = 0.9  # of SGD\n")),
    ),
    conflict(
        "the user comments a line out, the template edits it",
        train(("            optimizer.zero_grad()\n", "            # optimizer.zero_grad()\n")),
        train(("            optimizer.zero_grad()\n", "            optimizer.zero_grad(set_to_none=True)\n")),
    ),
    either(
        "the user wraps the loop over the epochs, the template the loop over the batches",
        train((EPOCH_LOOP, indented(EPOCH_LOOP, "    with profiler():\n"))),
        train((BLOCK, indented(BLOCK, "            if len(batch):\n"))),
        train(
            (
                EPOCH_LOOP,
                indented(
                    edit(EPOCH_LOOP, (BLOCK, indented(BLOCK, "            if len(batch):\n"))),
                    "    with profiler():\n",
                ),
            )
        ),
    ),
    clean(
        "the user edits the guard at the end, the template adds a function above it",
        train((GUARD, 'if __name__ == "__main__":\n    sys.exit(main())\n'), (ARGPARSE, ARGPARSE + "import sys\n")),
        train((GUARD, "def extra():\n    return 1\n\n\n" + GUARD)),
        train(
            (GUARD, 'def extra():\n    return 1\n\n\nif __name__ == "__main__":\n    sys.exit(main())\n'),
            (ARGPARSE, ARGPARSE + "import sys\n"),
        ),
    ),
    conflict(
        "both rewrite one docstring",
        train(('    """The mean loss of a batch."""\n', '    """The mean loss of one batch, in nats."""\n')),
        train(('    """The mean loss of a batch."""\n', '    """Cross entropy, averaged over the batch."""\n')),
    ),
    # --- twice ----------------------------------------------------------------------------------------------------------
    conflict(
        "both add the same call at different places of one loop",
        train(add_after("            loss.backward()\n", "            clip(model)\n")),
        train(("        model.eval()\n", "        clip(model)\n        model.eval()\n")),
    ),
    conflict(
        "both add the same key to a dictionary, with other values",
        change(DICT, ('    "loss": "nats",\n', '    "loss": "nats",\n    "rate": "1/s",\n')),
        change(DICT, ('    "size": "B",\n', '    "size": "B",\n    "rate": "Hz",\n')),
        base=DICT,
    ),
    conflict(
        "both add the same table to pyproject.toml at different places",
        {"pyproject.toml": text("pyproject.toml") + "\n[tool.black]\nline-length = 100\n"},
        {
            "pyproject.toml": edit(
                text("pyproject.toml"), ("[tool.demo]\n", "[tool.black]\nline-length = 88\n\n[tool.demo]\n")
            )
        },
    ),
    # --- the rest of the language ---------------------------------------------------------------------------------------
    either(
        "both add a case to a match",
        change(MATCH, ("        case _:\n", CASE_MINE + "        case _:\n")),
        change(MATCH, ("        case _:\n", CASE_THEIRS + "        case _:\n")),
        change(MATCH, ("        case _:\n", CASE_MINE + CASE_THEIRS + "        case _:\n")),
        (change(MATCH, ("        case _:\n", CASE_THEIRS + CASE_MINE + "        case _:\n")),),
        base=MATCH,
    ),
    clean(
        "quotes in an f-string that only newer Pythons read, the template edits elsewhere",
        train(('        print(f"epoch {epoch + 1}: {score:.3f}")\n', '        print(f"{config["a"]}: {score:.3f}")\n')),
        train(STEP),
        train(
            ('        print(f"epoch {epoch + 1}: {score:.3f}")\n', '        print(f"{config["a"]}: {score:.3f}")\n'),
            STEP,
        ),
    ),
    either(
        "the user adds an import, the template one from the future",
        train(("import argparse\n", "import abc\nimport argparse\n")),
        train(("import argparse\n", "from __future__ import annotations\n\nimport argparse\n")),
        train(("import argparse\n", "from __future__ import annotations\n\nimport abc\nimport argparse\n")),
    ),
    clean(
        "a text that looks like half a conflict, the template edits elsewhere",
        {"README.md": text("README.md") + "\nGit writes\n\n    <<<<<<< HEAD\n\nabove your side.\n"},
        {"README.md": edit(text("README.md"), ("Train digits.\n", "Train on digits.\n"))},
        {
            "README.md": edit(text("README.md"), ("Train digits.\n", "Train on digits.\n"))
            + "\nGit writes\n\n    <<<<<<< HEAD\n\nabove your side.\n"
        },
    ),
    clean(
        "a notebook, edited in one cell by each",
        change(NOTEBOOK, ('"a = 1\\n",\n', '"a = 10\\n",\n')),
        change(NOTEBOOK, ('"b = 2"\n', '"b = 20"\n')),
        change(NOTEBOOK, ('"a = 1\\n",\n', '"a = 10\\n",\n'), ('"b = 2"\n', '"b = 20"\n')),
        base=NOTEBOOK,
    ),
    either(
        "a notebook, the user adds a cell, the template edits the one below",
        {"notes.ipynb": edit(str(NOTEBOOK["notes.ipynb"]), ("  },\n  {\n", "  },\n" + NEXT_CELL + "  {\n"))},
        change(NOTEBOOK, ('"b = 2"\n', '"b = 20"\n')),
        {
            "notes.ipynb": edit(
                str(NOTEBOOK["notes.ipynb"]),
                ("  },\n  {\n", "  },\n" + NEXT_CELL + "  {\n"),
                ('"b = 2"\n', '"b = 20"\n'),
            )
        },
    ),
    either(
        "the template folds a call that the user gave another argument",
        train(
            UNFOLDED,
            ("        lr=config.learning_rate,\n", "        lr=config.learning_rate,\n        nesterov=True,\n"),
        ),
        train((UNFOLDED[0], "    optimizer = SGD(model.parameters(), lr=config.learning_rate)\n")),
        train(
            UNFOLDED,
            ("        lr=config.learning_rate,\n", "        lr=config.learning_rate,\n        nesterov=True,\n"),
        ),
        base=train(UNFOLDED),
    ),
    conflict(
        "the user leaves a function early, the template adds a statement at its end",
        train(
            (
                "    return cross_entropy(logits, labels)\n",
                "    return logits.mean()\n    return cross_entropy(logits, labels)\n",
            )
        ),
        train(
            (
                "    return cross_entropy(logits, labels)\n",
                "    loss = cross_entropy(logits, labels)\n    return loss\n",
            )
        ),
    ),
]
