"""Bad data is a clear error before training starts."""

import pytest

import train


def fails(settings, match):
    """The run fails for the reason given, before its first step."""
    run_dir = settings["data_dir"].with_name(f"run-{settings['data_dir'].name}")
    with pytest.raises(ValueError, match=match):
        train.main(train.Config(run_dir=run_dir, resume="auto", max_steps=1, trackers=(), **settings))
    assert not (run_dir / "metrics.jsonl").exists()


def test_a_folder_that_is_not_there_or_empty_is_named(settings, tmp_path):
    fails({**settings, "data_dir": tmp_path / "nowhere"}, "No folder of images for each class in `.*nowhere/train`")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    fails({**settings, "data_dir": tmp_path / "empty"}, "No folder of images for each class in `.*empty/train`")


def test_one_class_and_a_class_without_images_are_named(settings, data_dir):
    (data_dir / "train" / "mice").mkdir()
    fails(settings, "mice")
    (data_dir / "train" / "mice").rmdir()
    (data_dir / "train" / "dogs").rename(data_dir / "dogs")
    fails(settings, r"has one class, \['cats'\]: the judge needs two")


def test_a_class_that_is_only_in_the_training_images_is_named(settings, data_dir):
    (data_dir / "train" / "dogs").rename(data_dir / "train" / "mice")
    fails(settings, "has other classes in train")


def test_too_few_images_for_a_distance_are_named(settings, data_dir):
    for path in (data_dir / "train").rglob("*.png"):
        if path.stem not in ("0", "1", "2"):
            path.unlink()
    fails(settings, "has 3 images in train and 8 in test: four and two are the least")


@pytest.mark.parametrize("content", [lambda image: image[:100], lambda image: b"no image"])
def test_a_damaged_image_is_named(settings, data_dir, content):
    image = data_dir / "test" / "dogs" / "1.png"
    image.write_bytes(content(image.read_bytes()))
    fails(settings, "test/dogs/1.png` cannot be read as an image")


@pytest.mark.parametrize("image_size", [4, 30])
def test_a_size_that_the_networks_cannot_have_is_named(settings, image_size):
    fails({**settings, "image_size": image_size}, f"must be a multiple of 4, and at least 8: {image_size}")
