"""Data that cannot be trained on, in each template that reads data of the user's: one message, and nothing left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.generated import TEMPLATES, choices, loaded, rendered
from support.in_project import run_in
from support.sampled import over_three_days

from paccel.files.tree import write_tree

pytestmark = pytest.mark.slow


def nothing(folder: Path) -> None:
    """No data at all."""


def one_class(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "only").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / split / "only" / "0.png")


def one_label(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("text,label\n" + "some words,same\n" * 20)


def damaged_image(folder: Path) -> None:
    images = [{"id": number, "file_name": "0.png"} for number in (1, 2)]
    content: dict[str, Any] = {"images": images, "categories": [{"id": 1, "name": "it"}]}
    content["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}]
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / split / "0.png").write_bytes(b"no image")
        (folder / split / "annotations.json").write_text(json.dumps(content))


def no_number(folder: Path) -> None:
    (folder / "table.csv").write_text("size,target\n" + "large,1\n" * 20)


CASES: list[tuple[str, dict[str, Any], Callable[[Path], None], list[str], str]] = [
    ("image-classification", {"data": "folder"}, one_class, [], "needs at least two classes"),
    ("fine-tuning", {"data": "folder"}, one_class, [], "needs at least two classes"),
    ("gan", {"data": "folder"}, one_class, [], "has one class, ['only']"),
    ("object-detection", {"data": "coco"}, damaged_image, [], "`data/train/0.png` cannot be read"),
    ("image-segmentation", {"data": "folder"}, nothing, [], "`data/classes.txt` does not exist"),
    ("language-model", {"data": "folder"}, nothing, [], "There is no text in `data/train`"),
    ("language-model", {"data": "huggingface"}, nothing, ["--dataset=data"], "`data` or the tokenizer of"),
    ("text-classification", {"data": "csv"}, one_label, [], "`data/train.csv` has one class, `same`"),
    ("text-classification", {"data": "huggingface"}, nothing, ["--dataset=data"], "`data` cannot be loaded"),
    ("tabular", {"data": "csv"}, no_number, [], "The column `size` has `large` in line 2, which is not a number"),
]


def project(folder: Path, name: str, answers: dict[str, Any]) -> Path:
    write_tree(folder / "my-project", rendered(name, answers))
    (folder / "my-project" / "data").mkdir()
    return folder / "my-project"


@pytest.mark.parametrize(
    ("name", "answers", "spoil", "arguments", "message"),
    over_three_days([pytest.param(*case, id=f"{case[0]}-{case[1]['data']}") for case in CASES]),
)
def test_bad_data_ends_the_training_with_one_message_and_leaves_nothing(
    name: str,
    answers: dict[str, Any],
    spoil: Callable[[Path], None],
    arguments: list[str],
    message: str,
    tmp_path: Path,
) -> None:
    root = project(tmp_path, name, answers)
    spoil(root / "data")
    output = run_in(root, "train", *arguments, code=1, HF_HUB_OFFLINE="1")
    told = output[output.index("error: ") :]
    assert message in told
    assert "Traceback" not in output
    assert not (root / "runs").exists()


def test_every_template_that_reads_data_of_ones_own_is_tried() -> None:
    made = {name: dict(choices(loaded(name))).get("data", []) for name in TEMPLATES}
    own = {"folder", "csv", "coco", "huggingface"}
    assert {(name, data) for name, of in made.items() for data in of if data in own} == {
        (name, answers["data"]) for name, answers, *_ in CASES
    }


def test_a_mistake_in_the_projects_own_code_keeps_its_traceback_and_its_run(tmp_path: Path) -> None:
    root = project(tmp_path, "tabular", {})
    data = root / "data.py"
    data.write_text(data.read_text().replace("    targets = table.pop(target)\n", "    targets = table.pop(taget)\n"))
    output = run_in(root, "train", code=1)
    assert "Traceback" in output
    assert "NameError: name 'taget' is not defined" in output
    (status,) = root.glob("runs/*/status.json")
    assert json.loads(status.read_text())["state"] == "failed"


@pytest.mark.parametrize(
    ("name", "answers"),
    over_three_days(
        [
            pytest.param(name, {"data": data} | others, id=f"{name}-{data}")
            for name, data, others in [
                ("image-classification", "folder", {}),
                ("gan", "folder", {}),
                ("object-detection", "coco", {}),
                ("image-segmentation", "folder", {}),
                ("language-model", "folder", {}),
                ("language-model", "huggingface", {}),
                ("text-classification", "csv", {}),
                ("text-classification", "huggingface", {"model": "pretrained"}),
                ("tabular", "csv", {"task": "classification"}),
            ]
        ]
    ),
)
def test_the_projects_own_tests_of_bad_data_pass(name: str, answers: dict[str, Any], tmp_path: Path) -> None:
    root = project(tmp_path, name, answers)
    output = run_in(root, "pytest", "-q", "-p", "no:cacheprovider", "-k", "error or named or nothing_to_learn")
    assert " passed" in output
