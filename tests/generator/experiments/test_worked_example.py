"""The worked example of `docs/experiments.md` works, and its first variant wins as described."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.sampled import every_third_day

PAGE = Path(__file__).parents[3] / "docs" / "experiments.md"


@pytest.mark.slow
@pytest.mark.timeout(900)
@every_third_day(0)
def test_a_baseline_three_variants_the_verdict_and_the_winner(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    section = PAGE.read_text(encoding="utf-8").partition("## A worked example")[2].partition("\n## ")[0]
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    script = script.replace("paccel try --list", "paccel try --list --json > ../list.json")
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment | {"PATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    verdicts = {
        v["name"]: v["verdict"]["finding"] for v in json.loads((tmp_path / "list.json").read_text())["variants"]
    }
    assert (verdicts["higher-learning-rate"], verdicts["lower-learning-rate"]) == ("better", "worse")
    assert json.loads((tmp_path / "net" / "certificate.json").read_text())["verdict"] == "verified"
    assert "were replayed from" in (tmp_path / "net" / "runs" / "winner" / "weights" / "README.md").read_text()
    assert len(list((tmp_path / "net" / "runs" / "try").glob("parent-*"))) == 1  # trained once for all three
