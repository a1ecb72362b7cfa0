"""Scenarios of formatting, and of what text merges and nobody can run."""

from merge_base import add_after, edit, text
from merge_words import IMPORT, MAIN, RUN, STEP, Scenario, T, conflict, either, train

# --- formatting --------------------------------------------------------------------------------------------------------

WIDE = (
    "    optimizer = SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)\n",
    "    optimizer = SGD(\n        model.parameters(),\n        lr=config.learning_rate,\n        momentum=config.momentum,\n    )\n",
)
NARROW = [
    WIDE,
    (
        '    parser.add_argument("--epochs", type=int, default=Config.epochs)\n',
        '    parser.add_argument(\n        "--epochs", type=int, default=Config.epochs\n    )\n',
    ),
]
"""What a line length of 66 does to train.py."""

FORMAT: list[Scenario] = [
    either("the user reformatted, the template edits elsewhere", train(*NARROW), train(STEP), train(*NARROW, STEP)),
    either(
        "the user reformatted, the template edits a line that was wrapped",
        train(*NARROW),
        train((WIDE[0], WIDE[0].replace("lr=config.learning_rate", "lr=config.learning_rate / 2"))),
        train(NARROW[1], (WIDE[0], WIDE[1].replace("lr=config.learning_rate", "lr=config.learning_rate / 2"))),
    ),
    either(
        "the user switched to single quotes, the template edits such a line",
        train(*[(line, line.replace('"', "'")) for line in text(T).splitlines(keepends=True) if line.count('"') == 2]),
        train(
            ('        print(f"epoch {epoch + 1}: {score:.3f}")\n', '        print(f"epoch {epoch + 1}: {score:.4f}")\n')
        ),
        {
            T: edit(
                text(T),
                *[
                    (line, line.replace('"', "'").replace(".3f", ".4f"))
                    for line in text(T).splitlines(keepends=True)
                    if line.count('"') == 2
                ],
            )
        },
    ),
    either(
        "the template was reformatted, the user edited a line that was wrapped",
        train((WIDE[0], WIDE[0].replace("config.momentum", "0.95"))),
        train(*NARROW),
        train(NARROW[1], (WIDE[0], WIDE[1].replace("config.momentum", "0.95"))),
        (train((WIDE[0], WIDE[0].replace("config.momentum", "0.95"))),),
    ),
]

# --- what text merges and nobody can run ---------------------------------------------------------------------------------

MEANING: list[Scenario] = [
    conflict(
        "the user changes the optimizer's arguments, the template the optimizer",
        train((WIDE[0], WIDE[0].replace("momentum=config.momentum", "momentum=0.99, nesterov=True"))),
        train(
            (WIDE[0], WIDE[0].replace("SGD", "AdamW").replace(", momentum=config.momentum", "")),
            (IMPORT, "from torch.optim import AdamW\n"),
        ),
    ),
    conflict(
        "the same, with an argument a line",
        train((WIDE[0], WIDE[1].replace("momentum=config.momentum,\n", "momentum=0.99,\n        nesterov=True,\n"))),
        train((WIDE[0], WIDE[1].replace("SGD(", "AdamW(")), (IMPORT, "from torch.optim import AdamW\n")),
        base=train(WIDE),
    ),
    conflict(
        "the user renames a function, the template adds a call of it",
        train(
            ("def accuracy(model, loader):\n", "def top_1(model, loader):\n"),
            ("score = accuracy(model", "score = top_1(model"),
        ),
        train(
            (
                "    for epoch in range(config.epochs):\n",
                "    print(accuracy(model, eval_loader))\n    for epoch in range(config.epochs):\n",
            )
        ),
    ),
    conflict(
        "the template drops a Config field, the user reads it in a new place",
        train(add_after("    random.seed(config.seed)\n", "    print(config.momentum)\n")),
        train(("    momentum: float = 0.9\n", ""), (", momentum=config.momentum", "")),
    ),
    conflict(
        "both define a function of the same name at different places",
        train((MAIN, "def clip(model, limit):\n    return limit\n\n\n" + MAIN)),
        train(("@dataclass\nclass Config:\n", "def clip(model):\n    return 1.0\n\n\n@dataclass\nclass Config:\n")),
    ),
    conflict(
        "both leave a block empty between them",
        {
            "utils.py": edit(
                text("utils.py"),
                ("    random.seed(seed)\n", "    # nothing is random here any more\n    note = 1\n    del note\n"),
            )
        },
        {
            "utils.py": edit(
                text("utils.py"),
                ("    random.seed(seed)\n", ""),
                ("def seed_everything(seed: int = 0) -> None:", "def seed_everything(seed: int = 1) -> None:"),
            )
        },
    ),
    conflict(
        "a shell command edited on both sides",
        {"run.sh": edit(RUN, ("python train.py", "python train.py --epochs 50"))},
        {"run.sh": edit(RUN, ("python train.py", "accelerate launch train.py"))},
    ),
    conflict(
        "both pin a dependency to other versions",
        {"pyproject.toml": edit(text("pyproject.toml"), ("torch>=2.6", "torch==2.7"))},
        {"pyproject.toml": edit(text("pyproject.toml"), ("torch>=2.6", "torch>=2.8"))},
    ),
    conflict(
        "both give a key of the same table",
        {"pyproject.toml": text("pyproject.toml") + "mode = 1\n"},
        {"pyproject.toml": edit(text("pyproject.toml"), ("[tool.demo]\n", "[tool.demo]\nmode = 2\n"))},
    ),
]
