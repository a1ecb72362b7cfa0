"""Bad data is a clear error before training starts."""

from PIL import Image
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


def save(path, pixels):
    Image.fromarray(torch.as_tensor(pixels, dtype=torch.uint8).numpy()).save(path)


def test_classes_are_named_in_a_file(settings, data_dir):
    (data_dir / "classes.txt").write_text("ground\n\nground\n")
    fails(settings, r"classes.txt` needs 2 to 255 different names, a line for each, and has \['ground', 'ground'\]")
    (data_dir / "classes.txt").unlink()
    fails(settings, "classes.txt` is not there: write the names of the classes into it")


def test_a_folder_that_is_not_there_or_empty_is_named(settings, data_dir):
    for image in (data_dir / "test" / "images").iterdir():
        image.unlink()
    fails(settings, "test/images` has no images")
    (data_dir / "test" / "images").rmdir()
    fails(settings, "test/images` is no folder: put images there")


def test_one_image_is_named(settings, data_dir):
    for path in (data_dir / "train").rglob("*.png"):
        if path.stem != "0":
            path.unlink()
    fails(settings, "train/images` has 1 image: two are needed, one of them for eval")


def test_images_without_a_mask_and_masks_without_an_image_are_named(settings, data_dir):
    (data_dir / "train" / "masks" / "3.png").unlink()
    (data_dir / "train" / "images" / "5.png").unlink()
    fails(settings, "(?s)2 files in .*images/3.png` has no mask `.*masks/3.png`.*masks/5.png` has no image")


def test_what_does_not_fit_together_is_named(settings, data_dir):
    masks = data_dir / "train" / "masks"
    save(masks / "1.png", torch.zeros(48, 60))
    save(masks / "2.png", torch.full((48, 64), 2))
    save(masks / "3.png", torch.zeros(48, 64, 3))
    (data_dir / "train" / "images" / "4.png").write_bytes(b"no image")
    image = data_dir / "test" / "images" / "0.png"
    image.write_bytes(image.read_bytes()[:100])
    fails(settings, "5 files cannot be trained on")
    for name, problem in (
        ("1.png", "60 by 48 pixels and its image 64 by 48"),
        ("2.png", r"has \[2\], none of 0 to 1 nor 255"),
        ("3.png", "RGB colours where a mask has one number"),
        ("images/4.png", "cannot be read: cannot identify image file"),
        ("test/images/0.png", "cannot be read: "),
    ):
        fails(settings, f"{name}` .*{problem}")
    data.check_files(data_dir, 2, 20, 100_000)  # not its part


def test_masks_of_one_class_are_nothing_to_learn(settings, data_dir):
    for split in ("train", "test"):
        for path in (data_dir / split / "masks").iterdir():
            save(path, torch.full((48, 64), 255))
    fails(settings, "hold no class")
    save(path, torch.zeros(48, 64))
    fails(settings, "hold nothing but class 0")


def test_a_mask_with_a_palette_is_read_by_its_numbers(tmp_path):
    mask = Image.new("P", (4, 3), 2)
    mask.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    mask.save(tmp_path / "mask.png")
    assert (data.read_mask(tmp_path / "mask.png") == 2).all()


def test_image_and_mask_are_cut_and_mirrored_together(data_dir):
    splits = data.make_splits(data_dir, 32)
    for index in range(8):
        image, mask = splits.train[index]
        assert image.shape == (3, 32, 32)
        assert mask.dtype == torch.int64
        assert set(mask.unique().tolist()) <= {0, 1, data.IGNORE}
        square = image.amin(0) > 0.9
        assert (square == (mask == 1)).float().mean() > 0.9
