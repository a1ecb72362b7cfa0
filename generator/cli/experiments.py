"""The commands `verify`, `repeat` and `card`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import PreconditionError
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
