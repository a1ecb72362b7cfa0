"""The model card: the results of a run, in the format of the Hub."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def run(work: Path) -> Path:
    folder = work / "net" / "runs" / "a"
    (folder / "weights").mkdir(parents=True)
    (work / "net" / "train.py").write_text("")
    (work / "net" / ".paccel").mkdir()
    manifest = {"template": {"name": "image-classification"}, "answers": {"data": "digits"}}
    (work / "net" / ".paccel" / "manifest.json").write_text(json.dumps(manifest))
    config = {
        "settings": {"learning_rate": 1e-3, "note": "a | b", "run_dir": "runs/a"},
        "versions": {"torch": "2.15.0"},
        "git_commit": "c0ffee+",
        "data": {"train": {"0": {"samples": 1197, "content": "abc"}}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "step": 20}))
    rows = [{"step": 10, "eval/accuracy": 0.75}, {"step": 20, "eval/accuracy": 0.5}, {"step": 20, "test/accuracy": 0.7}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    about = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"step": "10"}}
    header = json.dumps(about).encode()
    content = len(header).to_bytes(8, "little") + header + struct.pack("<6f", *range(6))
    (folder / "weights" / "best.safetensors").write_bytes(content)
    (folder / "curves.png").write_bytes(b"png")
    return folder


def test_the_hub_reads_the_scores_of_these_weights(run: Path, paccel: Callable[..., Any]) -> None:
    done = paccel("card", run, "--json")
    assert done.code == 0
    card = hub.ModelCard.load(done.data["card"])
    data = card.data.to_dict()
    assert (data["pipeline_tag"], data["library_name"]) == ("image-classification", "pytorch")
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"eval/accuracy": 0.75, "test/accuracy": 0.7}
    assert {result.dataset_name for result in card.data.eval_results} == {"digits"}
    for text in (
        "6 values in 1 tensors",
        "| learning_rate | 0.001 |",
        "a \\| b",
        "torch 2.15.0",
        "c0ffee",
        "1197",
        "Not verified",
    ):
        assert text in card.text
    assert "run_dir" not in card.text
    assert (run / "weights" / "curves.png").is_file()


def test_any_name_and_number_is_shown_as_it_is_and_secrets_are_not(run: Path, paccel: Callable[..., Any]) -> None:
    config = json.loads((run / "config.json").read_text())
    config["settings"] |= {"api_key": "abc123", "note": "<b>[x](y)\nz", "tokens_dir": "data", "prompt_token": None}
    config["data"] = {"train": {"0": {"samples": 5, "content": None}}, "eval": ["?"]}
    (run / "config.json").write_text(json.dumps(config))
    rows = [{"step": 10, "eval/x|y": 1e-05, "eval/z": 1e20}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = paccel("card", run, "--json")
    assert done.code == 0
    card = hub.ModelCard.load(done.data["card"])
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"eval/x|y": 1e-05, "eval/z": 1e20}  # numbers, not texts
    assert "abc123" not in card.content
    for line in (
        "| api_key | (not shown) |",
        r"| note | \<b>\[x\](y) z |",
        "| tokens_dir | data |",
        "| prompt_token | null |",
        r"| eval/x\|y | 1e-05 | 10 |",
        "| train | 5 |  |",
    ):
        assert line in card.text


def test_a_certificate_is_quoted_if_it_is_of_this_run(run: Path, paccel: Callable[..., Any]) -> None:
    proof = {
        "run": "runs/a",
        "verdict": "verified",
        "from_step": 11,
        "to_step": 20,
        "code": {"from": "git commit c0ffee"},
    }
    path = run / "certificate.json"
    path.write_text(json.dumps(proof))
    assert paccel("card", run, "--certificate", path).code == 0
    assert "Steps 11 to 20 were replayed from git commit c0ffee" in (run / "weights" / "README.md").read_text()
    for change, code in (({"run": "runs/b"}, 2), ({"verdict": "differs"}, 2), ({"run": 1}, 3)):
        path.write_text(json.dumps(proof | change))
        assert paccel("card", run, "--certificate", path).code == code


def test_weights_that_are_not_there_are_named(run: Path, paccel: Callable[..., Any]) -> None:
    done = paccel("card", run, "--weights", "final")
    assert done.code == 2
    assert "can be: `best`" in done.err


def test_a_push_uploads_the_card_the_weights_and_the_curves(
    run: Path, paccel: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repository: str, **options: Any) -> str:
            if repository == "refused":
                raise OSError("401 Client Error\nmore")
            calls.append((repository, options))
            return f"https://huggingface.co/{repository}"

        def upload_folder(self, **options: Any) -> None:
            calls.append(("upload", options))

    monkeypatch.setattr(hub, "HfApi", Api)
    assert paccel("card", run).code == 0
    assert calls == []  # nothing is uploaded unless it is asked for
    done = paccel("card", run, "--push", "me/net", "--private", "--json")
    assert done.data["address"] == "https://huggingface.co/me/net"
    assert calls[0] == ("me/net", {"private": True, "exist_ok": True})
    assert calls[1][1]["allow_patterns"] == ["README.md", "curves.png", "best.safetensors"]
    refused = paccel("card", run, "--push", "refused")
    assert refused.code == 3
    assert "401 Client Error" in refused.err
