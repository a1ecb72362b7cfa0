"""Scenarios in which a conflict is acceptable, and so is the one right merge."""

from merge_base import add_after, edit, text
from merge_words import EPOCHS, IMPORT, LR, MAIN, OLD, RUN, Scenario, T, either, train

# --- where a right merge and a conflict are both acceptable ------------------------------------------------------------

FIELD = "    seed: int = 0\n"
LOSS_FN, SCORE_FN = (
    text(T)[text(T).index(a) : text(T).index(b)]
    for a, b in (("def compute", "def accuracy"), ("def accuracy", "def main"))
)
SWAPPED = (LOSS_FN + SCORE_FN, SCORE_FN + LOSS_FN)
TOP_K = (
    "def top_k(logits, labels, k):\n    return (logits.topk(k).indices == labels[:, None]).any(1).float().mean()\n\n\n"
)
EMA = "def update_average(average, model):\n    for a, b in zip(average.parameters(), model.parameters()):\n        a.lerp_(b, 0.01)\n\n\n"
BLOCK = """            loss = compute_loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
"""


def indented(block: str, head: str, tail: str = "") -> str:
    return head + "".join("    " + line for line in block.splitlines(keepends=True)) + tail


IN_WITH = indented(BLOCK, "            with profiler.step():\n")
IN_TRY = indented(BLOCK, "            try:\n", "            except RuntimeError:\n                print('skipped')\n")
CLIPPED = ("            loss.backward()\n", "            loss.backward()\n            clip(model, 1.0)\n")
IN_IF = indented(BLOCK, "            if len(batch):\n")
SCALED = ("            loss = compute_loss(model, batch)\n", "            loss = compute_loss(model, batch) / 2\n")

EITHER: list[Scenario] = [
    either(
        "edits of adjacent lines",
        train(EPOCHS),
        train(("    batch_size: int = 64\n", "    batch_size: int = 256\n")),
        train(EPOCHS, ("    batch_size: int = 64\n", "    batch_size: int = 256\n")),
    ),
    either(
        "edits of adjacent statements",
        train(("            loss.backward()\n", "            loss.backward(retain_graph=True)\n")),
        train(("            optimizer.step()\n", "            optimizer.step(None)\n")),
        train(
            ("            loss.backward()\n", "            loss.backward(retain_graph=True)\n"),
            ("            optimizer.step()\n", "            optimizer.step(None)\n"),
        ),
    ),
    either(
        "a line is added below one that the template edits",
        train(add_after(LR[0], "    warmup: int = 100\n")),
        train(LR),
        train((LR[0], LR[1] + "    warmup: int = 100\n")),
    ),
    either(
        "a line is edited above one that the template deletes",
        train(LR),
        train(("    momentum: float = 0.9\n", ""), (", momentum=config.momentum", "")),
        train(LR, ("    momentum: float = 0.9\n", ""), (", momentum=config.momentum", "")),
    ),
    either(
        "both add a field to the Config",
        train(add_after(FIELD, "    warmup: int = 100\n")),
        train(add_after(FIELD, "    ema: bool = False\n")),
        train(add_after(FIELD, "    warmup: int = 100\n    ema: bool = False\n")),
        (train(add_after(FIELD, "    ema: bool = False\n    warmup: int = 100\n")),),
    ),
    either(
        "both add a documented field at the end of the Config",
        train(("    verbose: bool = False\n", '    verbose: bool = False\n    warmup: int = 100\n    """Steps."""\n')),
        train(
            (
                "    verbose: bool = False\n",
                '    verbose: bool = False\n    ema: bool = False\n    """Average the weights."""\n',
            )
        ),
        train(
            (
                "    verbose: bool = False\n",
                '    verbose: bool = False\n    warmup: int = 100\n    """Steps."""\n    ema: bool = False\n    """Average the weights."""\n',
            )
        ),
        (
            train(
                (
                    "    verbose: bool = False\n",
                    '    verbose: bool = False\n    ema: bool = False\n    """Average the weights."""\n    warmup: int = 100\n    """Steps."""\n',
                )
            ),
        ),
    ),
    either(
        "both add an import at the same place",
        train(add_after("import argparse\n", "import json\n")),
        train(add_after("import argparse\n", "import math\n")),
        train(add_after("import argparse\n", "import json\nimport math\n")),
        (train(add_after("import argparse\n", "import math\nimport json\n")),),
    ),
    either(
        "both import another name of one module",
        train((IMPORT, "from torch.optim import SGD, Adam\n")),
        train((IMPORT, "from torch.optim import SGD, AdamW\n")),
        train((IMPORT, "from torch.optim import SGD, Adam, AdamW\n")),
        (
            train((IMPORT, "from torch.optim import SGD, AdamW, Adam\n")),
            train((IMPORT, "from torch.optim import Adam, AdamW, SGD\n")),
        ),
    ),
    either(
        "one drops an import, the other adds one beside it",
        train(("import random\n", ""), ("    random.seed(config.seed)\n", "")),
        train(add_after("import argparse\n", "import math\n")),
        train(
            ("import random\n", ""),
            ("    random.seed(config.seed)\n", ""),
            add_after("import argparse\n", "import math\n"),
        ),
    ),
    either(
        "both add a function at the same place",
        train((MAIN, TOP_K + MAIN)),
        train((MAIN, EMA + MAIN)),
        train((MAIN, TOP_K + EMA + MAIN)),
        (train((MAIN, EMA + TOP_K + MAIN)),),
    ),
    either(
        "both append a function to the file",
        {"utils.py": OLD + "\n\ndef mine():\n    return 1\n"},
        {"utils.py": OLD + "\n\ndef theirs():\n    return 2\n"},
        {"utils.py": OLD + "\n\ndef mine():\n    return 1\n\n\ndef theirs():\n    return 2\n"},
        ({"utils.py": OLD + "\n\ndef theirs():\n    return 2\n\n\ndef mine():\n    return 1\n"},),
    ),
    either(
        "both add a method at the end of a class",
        {
            "model.py": edit(
                text("model.py"),
                (
                    "        return self.head(features)\n",
                    "        return self.head(features)\n\n    def mine(self):\n        return 1\n",
                ),
            )
        },
        {
            "model.py": edit(
                text("model.py"),
                (
                    "        return self.head(features)\n",
                    "        return self.head(features)\n\n    def theirs(self):\n        return 2\n",
                ),
            )
        },
        {
            "model.py": edit(
                text("model.py"),
                (
                    "        return self.head(features)\n",
                    "        return self.head(features)\n\n    def mine(self):\n        return 1\n\n    def theirs(self):\n        return 2\n",
                ),
            )
        },
        (
            {
                "model.py": edit(
                    text("model.py"),
                    (
                        "        return self.head(features)\n",
                        "        return self.head(features)\n\n    def theirs(self):\n        return 2\n\n    def mine(self):\n        return 1\n",
                    ),
                )
            },
        ),
    ),
    either(
        "the user swaps two functions, the template edits one",
        train(SWAPPED),
        train(("    return right / total\n", "    return right / max(total, 1)\n")),
        train(
            ("    return right / total\n", "    return right / max(total, 1)\n"),
            (
                LOSS_FN + SCORE_FN.replace("right / total", "right / max(total, 1)"),
                SCORE_FN.replace("right / total", "right / max(total, 1)") + LOSS_FN,
            ),
        ),
    ),
    either(
        "the template swaps two functions, the user edits one",
        train(
            (
                "    return cross_entropy(logits, labels)\n",
                "    return cross_entropy(logits, labels, label_smoothing=0.1)\n",
            )
        ),
        train(SWAPPED),
        {
            T: edit(
                text(T),
                SWAPPED,
                (
                    "    return cross_entropy(logits, labels)\n",
                    "    return cross_entropy(logits, labels, label_smoothing=0.1)\n",
                ),
            )
        },
    ),
    either(
        "the user moves a function to the end, the template edits it",
        {T: edit(text(T), (LOSS_FN, ""), (MAIN, LOSS_FN + MAIN))},
        train(("    logits = model(images)\n", "    logits = model(images).float()\n")),
        {T: edit(text(T), (LOSS_FN, ""), (MAIN, LOSS_FN.replace("model(images)", "model(images).float()") + MAIN))},
    ),
    either(
        "the user puts a block into a with, the template adds a line to it",
        train((BLOCK, IN_WITH)),
        train(CLIPPED),
        {T: edit(text(T), (BLOCK, indented(BLOCK.replace(*CLIPPED), "            with profiler.step():\n")))},
    ),
    either(
        "the user puts a block into a try, the template edits its first line",
        train((BLOCK, IN_TRY)),
        train(SCALED),
        {
            T: edit(
                text(T),
                (
                    BLOCK,
                    indented(
                        BLOCK.replace(*SCALED),
                        "            try:\n",
                        "            except RuntimeError:\n                print('skipped')\n",
                    ),
                ),
            )
        },
    ),
    either(
        "the user puts a block into an if, the template edits its middle",
        train((BLOCK, IN_IF)),
        train(("            optimizer.zero_grad()\n", "            optimizer.zero_grad(set_to_none=True)\n")),
        {
            T: edit(
                text(T),
                (
                    BLOCK,
                    indented(
                        BLOCK.replace("zero_grad()", "zero_grad(set_to_none=True)"), "            if len(batch):\n"
                    ),
                ),
            )
        },
    ),
    either(
        "the template puts a block into a with, the user edits a line of it",
        train(SCALED),
        train((BLOCK, IN_WITH)),
        {T: edit(text(T), (BLOCK, indented(BLOCK.replace(*SCALED), "            with profiler.step():\n")))},
    ),
    either(
        "the user takes a block out of an if, the template edits it",
        train(("    if config.verbose:\n        print(model)\n", "    print(model)\n")),
        train(("        print(model)\n", "        print(model, flush=True)\n")),
        train(("    if config.verbose:\n        print(model)\n", "    print(model, flush=True)\n")),
    ),
    either(
        "both append a dependency to pyproject.toml",
        {
            "pyproject.toml": edit(
                text("pyproject.toml"), ('    "torch>=2.6",\n', '    "torch>=2.6",\n    "timm>=1.0",\n')
            )
        },
        {
            "pyproject.toml": edit(
                text("pyproject.toml"), ('    "torch>=2.6",\n', '    "torch>=2.6",\n    "tqdm>=4.66",\n')
            )
        },
        {
            "pyproject.toml": edit(
                text("pyproject.toml"),
                ('    "torch>=2.6",\n', '    "torch>=2.6",\n    "timm>=1.0",\n    "tqdm>=4.66",\n'),
            )
        },
        (
            {
                "pyproject.toml": edit(
                    text("pyproject.toml"),
                    ('    "torch>=2.6",\n', '    "torch>=2.6",\n    "tqdm>=4.66",\n    "timm>=1.0",\n'),
                )
            },
        ),
    ),
    either(
        "a dependency is bumped beside one that the user added",
        {
            "pyproject.toml": edit(
                text("pyproject.toml"), ('    "torch>=2.6",\n', '    "torch>=2.6",\n    "timm>=1.0",\n')
            )
        },
        {"pyproject.toml": edit(text("pyproject.toml"), ('    "torch>=2.6",\n', '    "torch>=2.8",\n'))},
        {
            "pyproject.toml": edit(
                text("pyproject.toml"), ('    "torch>=2.6",\n', '    "torch>=2.8",\n    "timm>=1.0",\n')
            )
        },
    ),
    either(
        "both extend a list on one line of pyproject.toml",
        {"pyproject.toml": edit(text("pyproject.toml"), ('["E", "F"]', '["E", "F", "B"]'))},
        {"pyproject.toml": edit(text("pyproject.toml"), ('["E", "F"]', '["E", "F", "I"]'))},
        {"pyproject.toml": edit(text("pyproject.toml"), ('["E", "F"]', '["E", "F", "B", "I"]'))},
        ({"pyproject.toml": edit(text("pyproject.toml"), ('["E", "F"]', '["E", "F", "I", "B"]'))},),
    ),
    either(
        "both append to requirements.txt",
        {"requirements.txt": text("requirements.txt") + "timm>=1.0\n"},
        {"requirements.txt": text("requirements.txt") + "tqdm>=4.66\n"},
        {"requirements.txt": text("requirements.txt") + "timm>=1.0\ntqdm>=4.66\n"},
        ({"requirements.txt": text("requirements.txt") + "tqdm>=4.66\ntimm>=1.0\n"},),
    ),
    either(
        "both append to .gitignore",
        {".gitignore": text(".gitignore") + "data/\n"},
        {".gitignore": text(".gitignore") + "*.log\n"},
        {".gitignore": text(".gitignore") + "data/\n*.log\n"},
        ({".gitignore": text(".gitignore") + "*.log\ndata/\n"},),
    ),
    either(
        "adjacent keys of a YAML file",
        {"config.yaml": edit(text("config.yaml"), ("size: 8", "size: 28"))},
        {"config.yaml": edit(text("config.yaml"), ("workers: 2", "workers: 4"))},
        {"config.yaml": edit(text("config.yaml"), ("size: 8", "size: 28"), ("workers: 2", "workers: 4"))},
    ),
    either(
        "adjacent lines of a shell script",
        {"run.sh": edit(RUN, ("set -e\n", "set -eu\n"))},
        {"run.sh": edit(RUN, ("python train.py", "python -u train.py"))},
        {"run.sh": edit(RUN, ("set -e\n", "set -eu\n"), ("python train.py", "python -u train.py"))},
    ),
    either(
        "the same fix with other white space",
        train(("    logits = model(images)\n", "    logits = model( images ).float()\n")),
        train(("    logits = model(images)\n", "    logits = model(images).float()\n")),
        train(("    logits = model(images)\n", "    logits = model( images ).float()\n")),
    ),
    either(
        "both add the same import at different places",
        train(add_after("import argparse\n", "import time\n")),
        train(("import random\n", "import random\nimport time\n")),
        train(add_after("import argparse\n", "import time\n")),
        (train(("import random\n", "import random\nimport time\n")),),
    ),
]
