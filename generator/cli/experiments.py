"""The commands `verify`, `repeat`, `try` and `card`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import PreconditionError, UsageError
from .console import json_option, print_json, print_progress, print_warnings

if TYPE_CHECKING:
    from ..experiments.repeat import Job


@click.command(short_help="Replay part of a run and compare the result byte for byte.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--steps",
    type=int,
    metavar="K",
    help="Replay at most K steps. [default: from the last checkpoint but one to the last]",
)
@click.option("--current", is_flag=True, help="Replay with the project's current files instead of the run's code.")
@click.option(
    "--certificate", type=click.Path(path_type=Path), metavar="FILE", help="Write the result to FILE as JSON."
)
@click.option(
    "--find-non-finite",
    is_flag=True,
    help="Name the module in which a NaN or infinity first appears, instead of comparing.",
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    run: Path,
    steps: int | None,
    current: bool,
    certificate: Path | None,
    find_non_finite: bool,
    as_json: bool,
) -> None:
    """Replay part of a run and compare the result byte for byte.

    Resumes from a checkpoint of the run in a scratch folder, with the run's own code (its git commit and code.patch),
    settings and number of processes, and compares metrics and tensors with those of the run. If they differ, it names the
    first difference and possible causes, such as other versions, and exits with 1. The run itself is only read.

    \b
    paccel verify runs/baseline                # does this code still produce this run?
    paccel verify runs/baseline --current      # did my refactoring change any number?
    """
    if find_non_finite:
        _find_non_finite(ctx, run, as_json)
        return
    from ..experiments.verify import verify_run

    found = verify_run(run, steps=steps, current=current, tell=print_progress)
    if certificate is not None:
        import json

        certificate.write_text(json.dumps(found.to_json(), indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(found.to_json())
    else:
        from .report_experiments import certificate_text

        click.echo(certificate_text(found))
    if not found.is_verified:
        ctx.exit(1)


def _find_non_finite(ctx: click.Context, run: Path, as_json: bool) -> None:
    from ..experiments.verify import find_non_finite

    step, found = find_non_finite(run, tell=print_progress)
    if as_json:
        print_json({"step": step, "found": found})
    else:
        click.echo(found or f"No NaN or infinity up to step {step}")
    if found is None:
        ctx.exit(1)


@click.command(short_help="Repeat a run over seeds and settings, and compare.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--seeds",
    default="5",
    metavar="N|A,B,…",
    help="A number of seeds, counted up from the run's own, or a list. [default: 5]",
)
@click.option(
    "--set", "given", multiple=True, metavar="NAME=VALUE,…", help="Values of a setting; repeatable, for a grid."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Runs side by side. [default: 1]")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the runs. [default: RUN-repeat]"
)
@click.option("--slurm", is_flag=True, help="Write a Slurm job array instead, and submit it if sbatch is installed.")
@json_option
@click.pass_context
def repeat(
    ctx: click.Context,
    run: Path,
    seeds: str,
    given: tuple[str, ...],
    jobs: int,
    into: Path | None,
    slurm: bool,
    as_json: bool,
) -> None:
    """Repeat a run over seeds and settings, and compare.

    Starts the project's training script with the settings of RUN, once for each seed and combination of values. Run the
    command again to resume: it skips finished runs. Exits with 1 if a run failed or was stopped.

    \b
    paccel repeat runs/baseline --seeds 5 --jobs 2
    paccel repeat runs/baseline --seeds 3 --set learning_rate=1e-3,3e-3
    paccel repeat runs/baseline --seeds 3 --set max_steps=500        # a shorter training
    """
    from ..experiments import repeat as repeats
    from ..experiments.code import find_root
    from ..runs.comparison import compare, comparison_data
    from ..runs.folder import read_run, require_run

    original = require_run(run)
    root = find_root(original)
    grid = repeats.parse_grid(given, original.settings)
    folder = into or run.with_name(f"{run.resolve().name}-repeat")
    chosen = repeats.parse_seeds(seeds if "seed" not in grid else "1", original.settings.get("seed"))
    planned = repeats.make_jobs(original, root, chosen, grid, folder)
    if slurm:
        _submit(planned, repeats.slurm_script(planned, original, root, jobs), folder, as_json)
        return
    outcomes = repeats.run_jobs(planned, original, at_once=jobs, tell=print_progress)
    unfinished = [outcome for outcome in outcomes if outcome.state != "finished"]
    finished = [read_run(outcome.job.run_dir, outcome.job.name) for outcome in outcomes if outcome.state == "finished"]
    varied = [name for name, values in grid.items() if len(values) > 1 and name != "seed"]
    found = compare(finished, by=varied) if finished else None
    if as_json:
        listed = [
            {"name": o.job.name, "run": str(o.job.run_dir), "state": o.state, "reason": o.reason} for o in outcomes
        ]
        print_json({"runs": listed, "comparison": None if found is None else comparison_data(found)})
    elif found is not None:
        from .tables import comparison_text

        click.echo(comparison_text(found))
        print_warnings(found.cautions)
    if unfinished:
        names = ", ".join(f"{outcome.job.name} ({outcome.state})" for outcome in unfinished)
        click.echo(f"Not finished: {names}; run the same command again to resume", err=True)
        ctx.exit(1)


def _submit(jobs: "Sequence[Job]", script: str, folder: Path, as_json: bool) -> None:
    """Write the script of a job array, and submit it if Slurm is installed."""
    import shutil
    import subprocess

    from ..files.disk import write_whole

    path = folder / "array.sbatch"
    write_whole(path, script.encode())
    said = "`sbatch` is not installed here: submit it on your cluster"
    if shutil.which("sbatch"):
        done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise PreconditionError(f"`sbatch {path}` failed: {done.stderr.strip()}")
        said = done.stdout.strip()
    if as_json:
        print_json({"script": str(path), "runs": [str(job.run_dir) for job in jobs], "sbatch": said})
    else:
        click.echo(f"{path}: an array of {len(jobs)} runs; {said}")
        click.echo(f"When they are finished: paccel compare {folder}")


@click.command("try", short_help="Try an idea in a git worktree, and keep it if it is better.")
@click.argument("what", required=False)
@click.option(
    "--parent",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run to compare with. [default: the newest finished run]",
)
@click.option("--seeds", metavar="N|A,B,…", help="Seeds, as in paccel repeat. [default: the parent's]")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="Length of each run in steps. [default: the parent's]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Stop each run after S seconds, instead of after a number of steps.",
)
@click.option(
    "--from", "start", type=click.Path(path_type=Path), metavar="CHECKPOINT", help="Start all runs from a checkpoint."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="With --run: runs side by side.")
@click.option("--run", "run_name", metavar="NAME", help="Run a variant and its parent, and compare them.")
@click.option("--keep", "keep_name", metavar="NAME", help="Merge a variant into the project.")
@click.option("--drop", "drop_name", metavar="NAME", help="Remove a variant's worktree; its runs and patch stay.")
@click.option("--list", "lists", is_flag=True, help="Show all variants with their verdicts.")
@json_option
@click.pass_context
def try_(
    ctx: click.Context,
    what: str | None,
    parent: Path | None,
    seeds: str | None,
    steps: int | None,
    seconds: float | None,
    start: Path | None,
    jobs: int,
    run_name: str | None,
    keep_name: str | None,
    drop_name: str | None,
    lists: bool,
    as_json: bool,
) -> None:
    """Try an idea in a git worktree, and keep it if it is better.

    The worktree, called a variant, starts from the project as it is on disk, uncommitted edits included. --run trains the
    variant and its parent with the same seeds, settings and length; a setting whose default you edit takes the new default.
    --keep merges your edits into the project; on conflicts it leaves conflict markers and exits with 1.

    \b
    paccel try "warm up longer" --seeds 3      # prints the path of the worktree: edit there
    paccel try --run warm-up-longer            # verdict against its parent
    paccel try --keep warm-up-longer           # or --drop
    """
    from ..experiments import variant as variants
    from ..experiments.repeat import parse_seeds
    from ..runs.folder import require_run
    from .report_experiments import kept_text, variants_text

    root = _project_of(Path.cwd())
    actions = [name for name in (what, run_name, keep_name, drop_name) if name is not None]
    if len(actions) + lists != 1:
        raise UsageError("Describe the idea in words, or pass one of `--run`, `--keep`, `--drop` and `--list`")
    if lists:
        found = variants.read_variants(root)
        if as_json:
            print_json({"variants": [variant.to_json() for variant in found]})
        else:
            click.echo(variants_text(found))
    elif what is not None:
        chosen: list[int] = []
        if seeds is not None:
            known = None if parent is None else require_run(parent).settings.get("seed")
            chosen = parse_seeds(seeds, known)
        variant = variants.begin(root, what, parent=parent, seeds=chosen, steps=steps, seconds=seconds, start=start)
        if as_json:
            print_json(variant.to_json())
        else:
            click.echo(variant.folder)
            click.echo(f"Edit the code there, then run: paccel try --run {variant.name}", err=True)
    elif run_name is not None:
        from ..experiments.trial import run_variant

        variant = variants.find_variant(root, run_name)
        variant, outcomes, comparison = run_variant(variant, at_once=jobs, tell=print_progress)
        failed = [f"{outcome.job.name}: {outcome.reason}" for outcome in outcomes if outcome.state == "failed"]
        if as_json:
            print_json(variant.to_json() | {"patch": str(variant.runs / "variant.patch"), "failed": failed})
        elif comparison is not None:
            from .tables import comparison_text

            click.echo(comparison_text(comparison))
            print_warnings(comparison.cautions)
        for line in failed:
            click.echo(f"Failed: {line}", err=True)
        if failed or comparison is None:
            ctx.exit(1)
    elif keep_name is not None:
        from ..experiments.keep import keep

        kept = keep(variants.find_variant(root, keep_name))
        if as_json:
            print_json({"changed": list(kept.changed), "conflicts": dict(kept.conflicts)})
        else:
            click.echo(kept_text(kept))
        if kept.conflicts:
            ctx.exit(1)
    elif drop_name is not None:
        variant = variants.find_variant(root, drop_name)
        variants.drop(variant)
        if as_json:
            print_json({"dropped": variant.name, "runs": str(variant.runs)})
        else:
            kept_runs = f"; its runs and its patch are kept in {variant.runs}" if variant.runs.is_dir() else ""
            click.echo(f"Dropped {variant.name}{kept_runs}")


def _project_of(folder: Path) -> Path:
    """Return the project that a folder is in; in a variant's worktree, the project of the variant.

    Raises:
        PreconditionError: It is in none.
    """
    from ..experiments.variant import FOLDER

    for here in [folder, *folder.parents]:
        if here.parent.name == FOLDER:
            return here.parent.parent
    for here in [folder, *folder.parents]:
        if (here / ".paccel").is_dir() or (here / "train.py").is_file():
            return here
    raise PreconditionError(f"`{folder}` is not in a project: go to a folder with a `train.py`")


@click.command(short_help="Write a model card for the weights of a run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--weights", metavar="NAME", help="A file of weights/. [default: best]")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file that paccel verify --certificate wrote.",
)
@click.option("--push", "repository", metavar="REPO", help="Upload to the Hugging Face Hub, as account/name.")
@click.option("--private", is_flag=True, help="With --push: create the repository as private.")
@json_option
def card(
    run: Path, weights: str | None, certificate: Path | None, repository: str | None, private: bool, as_json: bool
) -> None:
    """Write a model card for the weights of a run.

    Writes README.md next to the weights, with the Hub's metadata, from what the run recorded: scores, curves, data,
    settings, versions, and the certificate of paccel verify. Nothing is uploaded without --push.
    """
    from ..experiments.card import push, write_card

    found = write_card(run, weights=weights, certificate=certificate)
    address = None if repository is None else push(found, repository, private=private)
    if as_json:
        print_json({"card": str(found.path), "weights": str(found.weights), "address": address})
    else:
        click.echo(f"Wrote {found.path}" + ("" if address is None else f" and pushed it to {address}"))
