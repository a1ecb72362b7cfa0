"""The guides work as they stand: each page's `bash` blocks are run in an empty folder, its diffs are applied to `train.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import patches
from support.sampled import over_three_days

pytestmark = pytest.mark.slow

GUIDES = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(bash|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
APPLY = f"python \"{patches.__file__}\" train.py <<'END_OF_DIFF'\n"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", over_three_days(["your-own-templates.md", "eject.md", "tutorial.md"]))
def test_the_commands_and_edits_of_a_guide_work(name: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((GUIDES / name).read_text(encoding="utf-8"))
    assert "bash" in dict(blocks)
    script = "\n".join(APPLY + text + "END_OF_DIFF\n" if kind == "diff" else text for kind, text in blocks)
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": scripts, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
