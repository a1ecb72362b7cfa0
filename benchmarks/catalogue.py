"""Every template as users get it: from the wheel, with default answers, trained to the end, tested, killed and resumed.

    python benchmarks/catalogue.py [--templates tabular gan] [--threads 2] [--skip-two] [--seed 0] [--keep FOLDER]

The wheel is built from this checkout and installed into a fresh environment that shares all other packages with this one.
There, for each template: `paccel new`; `train.py`, on one process and on two by torchrun, and the scores of `evaluate.py`
for both; the project's own tests; and a run that is killed with SIGKILL, resumed, stopped with SIGTERM, and resumed again,
at random steps that are printed. Its weights and metrics (except `time/`) must equal those of the run on one process, byte
for byte.

A score is right if it is in the range that the template claims, plus or minus the printed tolerance of a few held-out
samples, because rounding differs with threads and processes. Needs the dependencies of the templates; with default answers,
nothing is downloaded.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from paccel.catalog.catalog import bundled_names, load_template

ROOT = Path(__file__).parents[1]
LIMIT = 1800  # seconds for one command
TWO = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]


class Score(NamedTuple):
    """The score whose figures a template's `reaches` states."""

    key: str  # of what evaluate.py prints
    scale: float  # from there to the figures
    tolerance: float  # of the figures


SCORES = {
    "fine-tuning": Score("accuracy", 100, 2.0),
    "gan": Score("frechet_distance", 1, 0.3),
    "image-classification": Score("accuracy", 100, 1.0),
    "image-segmentation": Score("mean_iou", 1, 0.03),
    "language-model": Score("bits_per_byte", 1, 0.05),
    "minimal": Score("accuracy", 100, 1.5),
    "object-detection": Score("map", 1, 0.03),
    "tabular": Score("r2", 1, 0.05),
    "text-classification": Score("accuracy", 100, 2.0),
}
FIGURES = re.compile(r"\d+(?:\.\d+)?(?:(?:, | and | to )\d+(?:\.\d+)?)*")


def stated(template: str) -> tuple[float, float]:
    """The lowest and the highest of the first figures in a template's `reaches`."""
    found = FIGURES.search(load_template(template).metadata.reaches)
    assert found, f"`reaches` of {template} has no figure"
    figures = [float(figure) for figure in re.findall(r"[\d.]+", found[0])]
    return min(figures), max(figures)


def install_wheel(folder: Path) -> Path:
    """Build the wheel, install it into an environment in `folder`, and return the environment's Python."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=LIMIT)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    (site,) = (folder / "env").glob("lib/*/site-packages")
    # Plain paths: the `.pth` files in them, which may bring an editable paccel, are not read.
    (site / "packages.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    (wheel,) = (folder / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--force-reinstall", str(wheel)], check=True, timeout=LIMIT)
    return python


class Timing(NamedTuple):
    """Wall-clock time of a command, and CPU time of it and its children, in seconds."""

    wall: float
    cpu: float


@dataclass
class Project:
    """A generated project, and how to run commands in it."""

    python: Path
    folder: Path
    threads: int  # all processes of a command together

    def start(self, *arguments: str, processes: int = 1) -> subprocess.Popen[str]:
        threads = str(max(1, self.threads // processes))
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
        environment |= {"OMP_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": "lo"}
        return subprocess.Popen(
            [str(self.python), *(TWO if processes == 2 else []), *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # else a killed launcher would leave its processes behind
        )

    def run(self, *arguments: str, processes: int = 1) -> tuple[str, Timing]:
        """Run a command, and return its output and its time; end the benchmark if it fails."""
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with self.start(*arguments, processes=processes) as process:
            try:
                out, _ = process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(f"`{' '.join(arguments)}` in {self.folder} took more than {LIMIT} seconds")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            sys.exit(f"`{' '.join(arguments)}` in {self.folder} ended with {process.returncode}:\n{out}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return out, Timing(time.perf_counter() - start, cpu)

    def train(self, name: str, processes: int = 1) -> Timing:
        return self.run("train.py", f"--run-dir=runs/{name}", processes=processes)[1]

    def evaluate(self, name: str) -> dict[str, Any]:
        """The scores of the best weights on the test split, by evaluate.py; without it, the last line of the run's output."""
        if not (self.folder / "evaluate.py").exists():
            return {key.removeprefix("test/"): value for key, value in self.metrics(name)[-1].items()}
        out, _ = self.run("evaluate.py", f"--run-dir=runs/{name}")
        scores: dict[str, Any] = json.loads(out.splitlines()[-1])
        return scores

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """The logged metrics, without wall-clock times."""
        path = self.folder / "runs" / name / "metrics.jsonl"
        # While the run is alive, its last line may be incomplete.
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]

    def weights(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "runs" / name / "weights").iterdir()}

    def interrupt(self, name: str, step: int, delay: float, number: int, *arguments: str) -> int:
        """Train until `delay` seconds after a step was logged, send a signal, and return the last logged step."""
        with self.start("train.py", f"--run-dir=runs/{name}", *arguments) as process:
            deadline = time.monotonic() + LIMIT
            while process.poll() is None and not any(line["step"] >= step for line in self.metrics(name)[-2:]):
                if time.monotonic() > deadline:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.005)
            time.sleep(delay)
            process.send_signal(number)
            out, _ = process.communicate(timeout=LIMIT)
        expected = 75 if number == signal.SIGTERM else -number
        if process.returncode != expected:
            sys.exit(f"Told to end by signal {number}, {self.folder} ended with {process.returncode}:\n{out}")
        return int(self.metrics(name)[-1]["step"])


def killed_and_resumed(project: Project, chance: random.Random) -> str:
    """Kill a run, resume and stop it, resume it; return at which steps, and how it differs from the run named `one`."""
    end = json.loads((project.folder / "runs" / "one" / "metrics.jsonl").read_text().splitlines()[-1])
    last, delay = end["step"], chance.uniform(0, 5) * end["time/seconds"] / end["step"]  # up to five steps
    killed_at = project.interrupt("killed", int(chance.uniform(0.1, 0.4) * last), delay, signal.SIGKILL)
    second = int(chance.uniform(killed_at + 1, 0.75 * last))  # after the steps that are in the log already
    stopped_at = project.interrupt("killed", second, delay, signal.SIGTERM, "--resume=auto")
    project.run("train.py", "--run-dir=runs/killed", "--resume=auto")
    differing = [name for name, content in project.weights("one").items() if project.weights("killed")[name] != content]
    if project.metrics("killed") != project.metrics("one"):
        differing.append("metrics.jsonl")
    where = f"killed after {killed_at}, stopped after {stopped_at} of {last}"
    return f"{where}: {'differ: ' + ', '.join(differing) if differing else 'equal'}"


def row(project: Project, template: str, skip_two: bool, chance: random.Random) -> tuple[list[str], bool]:
    """One template's line of the table, and whether all of it is as expected."""
    (low, high), score = stated(template), SCORES[template]
    sound = True

    def trained(name: str, processes: int) -> list[str]:
        nonlocal sound
        timing = project.train(name, processes)
        figure = project.evaluate(name)[score.key] * score.scale
        holds = low - score.tolerance <= figure <= high + score.tolerance
        sound &= holds
        return [f"{figure:.3g}{'' if holds else ' (!)'}", f"{timing.wall:.0f} ({timing.cpu:.0f})"]

    one = trained("one", 1)
    two = ["", ""] if skip_two else trained("two", 2)
    tests, _ = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    counted = re.search(r"\d+ passed.* in", tests)
    resumed = killed_and_resumed(project, chance)
    sound &= resumed.endswith(": equal")
    range_ = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    claim = f"{score.key} {range_} ± {score.tolerance:g}"
    return [template, claim, *one, *two, counted[0].removesuffix(" in") if counted else tests, resumed], sound


@contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    """The folder to work in: a permanent or a temporary one."""
    if keep:
        shutil.rmtree(keep, ignore_errors=True)
        keep.mkdir(parents=True)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="catalogue-") as folder:
            yield Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", nargs="+", default=bundled_names(), choices=bundled_names(), metavar="NAME")
    parser.add_argument("--threads", type=int, default=2, help="threads of a run; two processes share them")
    parser.add_argument("--skip-two", action="store_true", help="only one process")
    parser.add_argument("--seed", type=int, default=0, help="seed for the steps at which runs are interrupted")
    parser.add_argument("--keep", type=Path, help="a folder for the projects and their runs; emptied first")
    chosen = parser.parse_args()
    all_sound = True
    with workplace(chosen.keep) as folder:
        python = install_wheel(folder)
        print(f"{platform.platform(terse=True)}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
        print(f"{chosen.threads} threads; interrupted by seed {chosen.seed}; seconds are wall clock (CPU)\n")
        print("| template | says | one process | seconds | two | seconds | own tests | interrupted after step |")
        print("|---|---|---:|---:|---:|---:|---|---|", flush=True)
        for template in chosen.templates:
            new = [str(python.parent / "paccel"), "new", f"my-{template}", "--template", template, "--no-input"]
            subprocess.run(new, cwd=folder, check=True, capture_output=True, timeout=LIMIT)
            project = Project(python, folder / f"my-{template}", chosen.threads)
            cells, sound = row(project, template, chosen.skip_two, random.Random(f"{chosen.seed} {template}"))
            all_sound &= sound
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\nLoad average {os.getloadavg()[1]:.1f} over the last five minutes")
    return 0 if all_sound else 1


if __name__ == "__main__":
    sys.exit(main())
