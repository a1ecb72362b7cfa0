"""The command `try`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import PreconditionError, UsageError
from .console import json_option, print_json, print_progress, print_warnings

if TYPE_CHECKING:
    from ..experiments.variant import Variant


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
    from ..experiments.variant import begin, find_variant

    root = _project_of(Path.cwd())
    actions = [name for name in (what, run_name, keep_name, drop_name) if name is not None]
    if len(actions) + lists != 1:
        raise UsageError("Describe the idea in words, or pass one of `--run`, `--keep`, `--drop` and `--list`")
    if lists:
        _list(root, as_json)
    elif what is not None:
        chosen = [] if seeds is None else _seeds(seeds, parent)
        variant = begin(root, what, parent=parent, seeds=chosen, steps=steps, seconds=seconds, start=start)
        if as_json:
            print_json(variant.to_json())
        else:
            click.echo(variant.folder)
            click.echo(f"Edit the code there, then run: paccel try --run {variant.name}", err=True)
    elif run_name is not None:
        _run(ctx, find_variant(root, run_name), jobs, as_json)
    elif keep_name is not None:
        _keep(ctx, find_variant(root, keep_name), as_json)
    elif drop_name is not None:
        _drop(find_variant(root, drop_name), as_json)


def _list(root: Path, as_json: bool) -> None:
    from ..experiments.variant import read_variants
    from .report_experiments import variants_text

    found = read_variants(root)
    if as_json:
        print_json({"variants": [variant.to_json() for variant in found]})
    else:
        click.echo(variants_text(found))


def _seeds(text: str, parent: Path | None) -> Sequence[int]:
    from ..experiments.repeat import parse_seeds
    from ..runs.folder import require_run

    return parse_seeds(text, None if parent is None else require_run(parent).settings.get("seed"))


def _run(ctx: click.Context, variant: "Variant", jobs: int, as_json: bool) -> None:
    from ..experiments.trial import run_variant

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


def _keep(ctx: click.Context, variant: "Variant", as_json: bool) -> None:
    from ..experiments.keep import keep
    from .report_experiments import kept_text

    kept = keep(variant)
    if as_json:
        print_json({"changed": list(kept.changed), "conflicts": dict(kept.conflicts)})
    else:
        click.echo(kept_text(kept))
    if kept.conflicts:
        ctx.exit(1)


def _drop(variant: "Variant", as_json: bool) -> None:
    from ..experiments.variant import drop

    drop(variant)
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
