"""The page of a comparison works without network, with any name, and in a real browser."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.run_folders import write_run

from paccel.runs.comparison import compare
from paccel.runs.folder import find_runs
from paccel.runs.page import page_of, thin
from paccel.runs.scores import Point

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
EVIL = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"

# Uses the page as someone with a mouse and a keyboard would, and writes down what is there then.
PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const big = document.getElementById("big"), seen = {};
  const lines = () => big.querySelectorAll("path.curve").length;
  const box = big.getBoundingClientRect();
  seen.title = document.title;
  seen.curves = lines();
  seen.labels = [...big.querySelectorAll("text")].map(text => text.textContent);
  big.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width / 2, clientY: box.top + 100, bubbles: true }));
  seen.tip = big.querySelector(".tip").innerText;
  big.dispatchEvent(new PointerEvent("pointerleave"));
  seen.left = big.querySelector(".tip") === null;
  big.focus();
  for (const key of ["End", "ArrowLeft"]) big.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  seen.readout = document.getElementById("readout").textContent;
  const select = document.querySelector("select"), amount = () => document.querySelector("#legend .count").textContent;
  seen.amount = amount();
  const first = select.value;
  select.value = "eval/a<b>"; select.dispatchEvent(new Event("change", { bubbles: true }));
  seen.other = amount();
  select.value = first; select.dispatchEvent(new Event("change", { bubbles: true }));
  const path = big.querySelector("path.curve").getAttribute("d");
  document.getElementById("log").click();
  seen.log = path !== big.querySelector("path.curve").getAttribute("d");
  document.getElementById("by-time").click();
  seen.time = big.getAttribute("aria-label");
  document.getElementById("means").click();
  seen.means = lines();
  document.querySelector("#legend button").click();
  seen.hidden = lines();
  const before = getComputedStyle(document.body).backgroundColor;
  document.getElementById("theme").click();
  seen.theme = before !== getComputedStyle(document.body).backgroundColor;
  seen.rows = document.querySelectorAll("#runs tbody tr").length;
  document.querySelectorAll("#runs th button")[0].click();
  seen.sorted = document.querySelector("#runs th").getAttribute("aria-sort");
  seen.cells = [...document.querySelectorAll("#runs tbody tr:first-child td")].map(cell => cell.textContent);
  seen.verdict = document.getElementById("verdict-card").innerText;
  seen.small = document.querySelectorAll("#small figure").length;
  seen.images = document.images.length;
  seen.wide = document.documentElement.scrollWidth <= innerWidth;
  seen.hash = location.hash;
  document.body.replaceChildren(Object.assign(document.createElement("pre"), { id: "seen", textContent: JSON.stringify(seen) }));
}, 50));
</script>
"""


def page(folder: Path, by: Sequence[str] = ()) -> str:
    return page_of(compare(find_runs(folder).runs, by=by))


def test_the_page_needs_no_network_and_holds_any_name(tmp_path: Path) -> None:
    write_run(
        tmp_path / "a", {"eval/loss": [2.0, math.nan, 1.0], EVIL.replace("/", "!") + "/x": [1.0]}, note=EVIL, seed=0
    )
    write_run(tmp_path / "b", note="/* data */ <!-- refresh -->", seed=0)
    text = page(tmp_path)
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)\w*:?//", text)
    assert "Content-Security-Policy" in text
    assert EVIL not in text
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    notes = [group["runs"][0]["settings"]["note"] for group in data["groups"]]
    assert notes == [EVIL, "/* data */ <!-- refresh -->"]
    assert data["groups"][0]["runs"][0]["curves"]["eval/loss"] == [[10, 20, 30], [2.0, None, 1.0], [1.5, 3.0, 4.5]]


def test_a_page_that_is_loaded_again_says_so_in_its_head(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    found = compare(find_runs(tmp_path).runs)
    assert '<meta http-equiv="refresh" content="2">' in page_of(found, refresh=2)
    assert 'http-equiv="refresh"' not in page_of(found)


def test_thin_curves_keep_ends_and_peaks() -> None:
    points = [Point(step, math.sin(step / 50)) for step in range(10_000)]
    points[4321] = Point(4321, 99.0)
    points[7000] = Point(7000, math.nan)
    kept = thin(points, 300)
    assert len(kept) <= 300
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert points[4321] in kept
    assert [point.step for point in kept] == sorted(point.step for point in kept)
    assert thin(points[:300], 300) == points[:300]
    assert len(thin([Point(step, math.nan) for step in range(1000)], 100)) <= 100


def in_browser(page: Path) -> tuple[str, list[str]]:
    """Return the page after a browser has run it, and the messages of its console."""
    assert BROWSER is not None
    profile = page.parent / "profile"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--window-size=1280,1600"]
    options += ["--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("count", [3, 100])
def test_the_page_in_a_browser(tmp_path: Path, count: int) -> None:
    runs = tmp_path / "runs"
    for number in range(count):
        rate, seed = (0.1, 0.2)[number % 2], number // 2
        losses = [2.0 / step + rate + 0.003 * seed + 0.001 * (number % 3) for step in range(1, 41)]
        scores = {"eval/loss": losses, "train/loss": losses, "eval/a<b>": losses[:1]}
        write_run(
            runs / f"{number:03} <i>{EVIL[:4].replace('/', '')}", scores, learning_rate=rate, seed=seed, note=EVIL
        )
    (tmp_path / "page.html").write_text(
        page(runs, ["learning_rate"]).replace("</body>", PROBE + "</body>"), encoding="utf-8"
    )
    dom, console = in_browser(tmp_path / "page.html")
    assert console == []
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[-2000:]
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["title"] == f"2 groups of {count} runs · eval/loss"
    assert seen["curves"] == count
    assert {"0", "200", "400", "step"} <= set(seen["labels"])
    assert seen["tip"].startswith("step 2")
    assert re.search(r"learning_rate=0.[12] · 0\d\d <i>", seen["tip"])
    assert ("more" in seen["tip"]) == (count > 10)
    assert seen["left"]
    assert seen["readout"].startswith("step 390: ")
    assert ("mean 0.15" if count == 3 else "mean ") in seen["amount"]
    assert seen["other"].startswith("mean 2.1")  # the legend is of the score that is shown
    assert seen["log"]
    assert "over time" in seen["time"]
    assert (seen["means"], seen["hidden"]) == (2, 1)
    assert seen["theme"]
    assert (seen["rows"], seen["small"], seen["images"]) == (count, 3, 0)
    assert seen["sorted"] == "descending"
    assert seen["cells"][0].startswith(f"{count - 1:03} <i>")
    assert ("worse" if count == 100 else "too few runs") in seen["verdict"]
    assert "means=1" in seen["hash"]
    assert seen["wide"]
