"""How long `paccel new` and `paccel --help` take, compared with the usual alternatives.

    python benchmarks/new_command.py [--rounds 15]

`paccel new` is paired with the `cookiecutter` command followed by the `black` command on the same template, and
`paccel --help` with `python -c "import click"`. Each round runs all of them once, in a rotating order, so that other load
on the machine affects all alike; the result is the ratio within a round. The template is the default one, with its layers
merged into one folder, because cookiecutter has no layers.
"""

import argparse
import filecmp
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from paccel.catalog.catalog import DEFAULT_TEMPLATE, PARTIALS_DIR, load_template
from paccel.files.tree import File, write_tree
from paccel.sandbox.environment import make_environment

PROJECT = "my-project"


def single_layer(folder: Path) -> Path:
    """Write the default template's layers into one plain cookiecutter template, and return its folder."""
    template = load_template(DEFAULT_TEMPLATE)
    asked = [
        *template.layers,
        *(layer for _, layer in template.extras),
    ]  # the extras are off, but their questions are asked
    context = {name: value for layer in asked for name, value in layer.entries.items()}
    context["project_name"] = PROJECT
    environment = make_environment(template.entries, template.name)
    for layer in template.layers:
        for part, tree in (("{{cookiecutter.project_name}}", layer.project), (PARTIALS_DIR, layer.partials)):
            texts = {path: file.content.decode() for path, file in tree.items()}
            # With a marker in the text, cookiecutter also keeps the blank line after a line statement.
            marked = {path: environment.preprocess(text).encode() for path, text in texts.items()}
            write_tree(folder / part, {path: File(marked[path], file.executable) for path, file in tree.items()})
    (folder / "cookiecutter.json").write_text(json.dumps(context))
    return folder


def seconds(*commands: list[str], home: Path) -> float:
    """Run commands one after the other and return their wall-clock time, in seconds."""
    environment = os.environ | {"HOME": str(home), "USERPROFILE": str(home)}
    start = time.perf_counter()
    for command in commands:
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120)
    return time.perf_counter() - start


def same_files(left: Path, right: Path) -> bool:
    """Whether two folders have the same files, except for paccel's own state."""
    comparison = filecmp.dircmp(left, right, ignore=[".paccel"])
    if comparison.left_only or comparison.right_only or comparison.funny_files:
        return False
    _, different, errors = filecmp.cmpfiles(left, right, comparison.common_files, shallow=False)
    return not different and not errors and all(same_files(left / d, right / d) for d in comparison.common_dirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds to measure, after one to warm up")
    rounds = parser.parse_args().rounds
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        home, ours, theirs = (Path(scratch, name) for name in ("home", "ours", "theirs"))
        for folder in (home, ours, theirs):
            folder.mkdir()
        template = str(single_layer(Path(scratch, "template")))
        new = [str(scripts / "paccel"), "new", str(ours / PROJECT), "--template", template, "--no-input"]
        bake = [str(scripts / "cookiecutter"), "--no-input", "-o", str(theirs), template]
        black = [str(scripts / "black"), "--quiet", str(theirs / PROJECT)]
        tasks: dict[str, Callable[[], float]] = {
            "paccel new": lambda: seconds(new, home=home),
            "cookiecutter + black": lambda: seconds(bake, black, home=home),
            "paccel --help": lambda: seconds([str(scripts / "paccel"), "--help"], home=home),
            "import click": lambda: seconds([sys.executable, "-c", "import click"], home=home),
        }
        times: dict[str, list[float]] = {name: [] for name in tasks}
        for turn in range(rounds + 1):
            for folder in (ours, theirs):
                shutil.rmtree(folder / PROJECT, ignore_errors=True)
            shutil.rmtree(home / ".cache", ignore_errors=True)  # so that black does not skip files from the last round
            order = list(tasks)
            order = order[turn % len(order) :] + order[: turn % len(order)]
            for name in order:
                taken = tasks[name]()
                if turn:
                    times[name].append(taken)
            if not same_files(ours / PROJECT, theirs / PROJECT):
                sys.exit("The two ways did not give the same files: the comparison means nothing")
    print(f"{platform.platform(terse=True)}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("paccel", "cookiecutter", "black", "click", "jinja2")))
    print(f"{rounds} rounds; median seconds")
    for name, measured in times.items():
        print(f"  {name:22}{statistics.median(measured):.3f}")
    for left, right, target in (("paccel new", "cookiecutter + black", 1.0), ("paccel --help", "import click", 2.0)):
        ratios = [a / b for a, b in zip(times[left], times[right], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{left} / {right}: {middle:.2f} (quartiles {low:.2f} to {high:.2f}; target at most {target})")


if __name__ == "__main__":
    main()
