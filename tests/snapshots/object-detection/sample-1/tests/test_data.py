"""Bad data is a clear error before training starts."""

import json

import pytest
import torch

import data
import train


def fails(settings, match):
    """The run fails for the reason given, before its first step."""
    run_dir = settings["data_dir"].with_name(f"run-{settings['data_dir'].name}")
    with pytest.raises(ValueError, match=match):
        train.main(train.Config(run_dir=run_dir, resume="auto", max_steps=1, trackers=(), **settings))
    assert not (run_dir / "metrics.jsonl").exists()


def edit(data_dir, key, entries):
    """Put entries behind those of the training images, or if there are none, take away what is there."""
    path = data_dir / "train" / "annotations.json"
    content = json.loads(path.read_text())
    content[key] = content[key] + entries if entries else []
    path.write_text(json.dumps(content))


def box(*numbers, image=1, category=3):
    return {"image_id": image, "category_id": category, "bbox": list(numbers)}


def test_annotations_that_are_missing_or_broken_are_named(settings, data_dir):
    path = data_dir / "test" / "annotations.json"
    for text, problem in (
        ('{"images": [', "JSONDecodeError: Expecting value"),
        ("[]", "TypeError"),
        ('{"images": []}', "KeyError: 'categories'"),
    ):
        path.write_text(text)
        fails(settings, f"test/annotations.json` cannot be read as COCO annotations: {problem}")
    path.unlink()
    fails(settings, "test/annotations.json` cannot be read as COCO annotations: FileNotFoundError")


def test_boxes_of_what_is_unknown_or_without_extent_are_named(settings, data_dir):
    edit(data_dir, "annotations", [box(1, 1, 5, 5, image=999), box(1, 1, 5, 5, category=4)])
    edit(data_dir, "annotations", [box(1, 1, 0, 5), box(1, 1, 5), box(float("nan"), 1, 5, 5)])
    fails(settings, "train/annotations.json` cannot be trained on, for 5 reasons")
    extents = r"no extent: \[1.0, 1.0, 0.0, 5.0\]", r"1.0, 5.0\]", r"\[nan"
    for problem in ("unknown image 999", "unknown category 4", *extents):
        fails(settings, f"a box .*{problem}")
    edit(data_dir, "annotations", [])
    fails(settings, "there are no boxes")


def test_images_that_are_missing_or_damaged_and_boxes_outside_are_named(settings, data_dir):
    edit(data_dir, "images", [{"id": 77, "file_name": "77.png"}])
    edit(data_dir, "annotations", [box(50, 10, 20, 20, image=2)])
    damaged = data_dir / "test" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    fails(settings, "for 3 reasons")
    for problem in ("77.png` is not there", r"2.png` has 64 by 48 pixels, and the box \[50.0", "3.png` cannot be read"):
        fails(settings, problem)
    data.check_images(data.make_splits(data_dir), 20, 100_000)  # not its part


def test_the_annotations_are_read_once(settings, data_dir, tmp_path, monkeypatch):
    read, folders = data.read_annotations, []

    def counted(folder):
        folders.append(folder.name)
        return read(folder)

    monkeypatch.setattr(data, "read_annotations", counted)
    train.main(train.Config(run_dir=tmp_path / "run", max_steps=1, limit_batches=1, trackers=(), **settings))
    assert folders == ["train", "test"]


def test_one_image_is_named(settings, data_dir):
    path = data_dir / "train" / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:1]
    content["images"] = [each for each in content["images"] if each["id"] == content["annotations"][0]["image_id"]]
    path.write_text(json.dumps(content))
    fails(settings, "train` has 1 image in annotations.json: two are needed, one of them for eval")


def test_other_classes_in_the_test_images_are_named(settings, data_dir):
    edit(data_dir, "categories", [{"id": 9, "name": "mouse"}])
    fails(settings, "has other classes in train")


def test_regions_of_a_crowd_are_left_out(data_dir):
    before = data.read_annotations(data_dir / "train")
    edit(data_dir, "annotations", [{**box(1, 1, 5, 5), "iscrowd": 1}])
    assert data.read_annotations(data_dir / "train") == before


def test_boxes_are_mirrored_with_their_image(data_dir):
    annotations = data.read_annotations(data_dir / "train")
    images = data.CocoImages(annotations, flip=True)
    lefts = set()
    for seed in range(8):
        torch.manual_seed(seed)
        image, target = images[5]
        left, top, right, bottom = target["boxes"][0].int().tolist()
        assert (image[:, top:bottom, left:right] == 1).all()
        lefts.add(left)
    assert lefts == {5, 64 - 25}
