"""How well upgrades merge: paccel, copier, cruft and plain `git merge-file`, on the cases in `tests/merge_cases`; and
which of them notice a broken project although each file merges cleanly, on those in `tests/project_cases`.

    python benchmarks/merge_fidelity.py [--tools paccel,paccel-alone,copier,cruft,git] [--cases merge,project]
        [--case TEXT] [--json FILE]

`paccel-alone` is paccel without ty and ruff.

Every tool gets its best setting: copier and cruft work in a git repository in which the pristine project and then the
user's edits are committed, with their templates in a repository with tags; paccel works without git. `git` is a script that
takes whichever side changed a file, and `git merge-file` if both did. A tool counts as having reported a conflict, or noticed
a broken project, if it leaves markers, a `.rej` file or an unmerged path, or exits with a code other than 0.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from merge_tools import TOOLS, Tool
from support.merge_cases import NAMES, Case, load_case
from support.merge_score import Result, Verdict, judge
from support.project_cases import NAMES as PROJECT_NAMES
from support.project_cases import ProjectCase, load_project_case

COLUMNS: dict[str, Callable[[Verdict], bool]] = {
    "as expected": lambda verdict: verdict.as_expected,
    "lost edit": lambda verdict: verdict.lost_edit,
    "silently wrong": lambda verdict: verdict.silently_wrong,
    "needless conflict": lambda verdict: verdict.needless_conflict,
    "traceback": lambda verdict: verdict.traceback,
    "unparsable": lambda verdict: verdict.unparsable,
    "rightly merged": lambda verdict: verdict.rightly_merged,
}


def run(tool: Tool, case: Case) -> Verdict:
    """Run one case through one tool, in its own folder."""
    folder = Path(tempfile.mkdtemp(prefix="merge-"))
    try:
        result: Result = tool(folder, case)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return judge(case, result)


def table(cases: list[Case], verdicts: Mapping[str, list[Verdict]]) -> str:
    """One row per tool."""
    optional = sum(case.outcome == "either" for case in cases)
    names = [*COLUMNS]
    lines = [f"{'':<14}" + "".join(f"{name:>19}" for name in names)]
    for tool, of_tool in verdicts.items():
        counts = Counter(name for verdict in of_tool for name, holds in COLUMNS.items() if holds(verdict))
        of = {"rightly merged": optional}
        cells = [f"{counts[name]}/{of.get(name, len(of_tool))}" for name in names]
        lines.append(f"{tool:<14}" + "".join(f"{cell:>19}" for cell in cells))
    return "\n".join(lines)


def project_table(cases: list[ProjectCase], verdicts: Mapping[str, list[Verdict]]) -> str:
    """One row per tool: how many broken projects it noticed, and how many intact ones it reported."""
    broken = [case.outcome != "clean" for case in cases]
    lines = [f"{'':<14}{'noticed':>19}{'false alarm':>19}"]
    for tool, of_tool in verdicts.items():
        said = [verdict.reported for verdict in of_tool]
        counts = [
            sum(heard for heard, is_broken in zip(said, broken, strict=True) if is_broken == of) for of in (True, False)
        ]
        lines.append(f"{tool:<14}{f'{counts[0]}/{sum(broken)}':>19}{f'{counts[1]}/{len(broken) - sum(broken)}':>19}")
    return "\n".join(lines)


def machine() -> str:
    """The machine, and the tools' versions, from the programs that ran."""
    versions = []
    for name in ("paccel", "ty", "ruff", "copier", "cruft", "git"):
        if program := shutil.which(name):
            done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
            number = re.search(r"\d+(\.\w+)+", done.stdout)
            versions += [f"{name} {number[0]}"] if number else []
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}; {', '.join(versions)}"


def run_all(tools: Mapping[str, Tool], cases: list[Case]) -> dict[str, list[Verdict]]:
    """Every case through every tool, several at a time."""
    verdicts: dict[str, list[Verdict]] = {name: [] for name in tools}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, case in enumerate(cases, 1):
            jobs = {name: pool.submit(run, tool, case) for name, tool in tools.items()}
            for name, job in jobs.items():
                verdicts[name].append(job.result())
            if sys.stderr.isatty():
                print(f"\r{number}/{len(cases)} ", end="", file=sys.stderr, flush=True)
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", default=",".join(TOOLS), help="any of " + ", ".join(TOOLS))
    parser.add_argument("--cases", default="merge,project", help="kinds of cases")
    parser.add_argument("--case", default="", help="only those with this text in their name")
    parser.add_argument("--json", type=Path, help="write every verdict there")
    options = parser.parse_args()
    tools = {name: TOOLS[name] for name in options.tools.split(",")}
    cases = [load_case(name) for name in NAMES if options.case in name and "merge" in options.cases]
    verdicts = run_all(tools, cases)
    for number, case in enumerate(cases):
        words = {name: verdicts[name][number].word for name in tools}
        if any(not verdicts[name][number].as_expected for name in tools) or options.case:
            print(f"{case.title} ({case.outcome}){f'; open: {case.open}' if case.open else ''}")
            print("    " + "   ".join(f"{name}: {word}" for name, word in words.items()))
    print(f"\n{len(cases)} cases; {machine()}\n\n{table(cases, verdicts)}")
    names = [name for name in PROJECT_NAMES if options.case in name and "project" in options.cases]
    projects = [load_project_case(name) for name in names]
    noticed = run_all(tools, [project.case for project in projects])
    for number, project in enumerate(projects):
        said = {name: noticed[name][number].reported for name in tools}
        if any(heard != (project.outcome != "clean") for heard in said.values()) or options.case:
            print(f"{project.case.title} ({project.outcome})")
            print("    " + "   ".join(f"{name}: {'reported' if heard else 'silent'}" for name, heard in said.items()))
    print(f"\n{len(projects)} projects\n\n{project_table(projects, noticed)}")
    if options.json:
        data = {
            name: {case.name: verdict.word for case, verdict in zip(cases, of_tool, strict=True)}
            for name, of_tool in verdicts.items()
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    ours = [v for case, v in zip(cases, verdicts.get("paccel", []), strict=False) if not case.open]
    broken = [v for v in ours if v.lost_edit or v.silently_wrong or v.traceback or v.unparsable]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
