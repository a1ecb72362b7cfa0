def fails(settings, match):
    """Check that the run fails with this message before its first step."""
    run_dir = settings["data_dir"].with_name(f"run-{settings['data_dir'].name}")
    with pytest.raises(ValueError, match=match):
        train.main(train.Config(run_dir=run_dir, resume="auto", max_steps=1, trackers=(), **settings))
    assert not (run_dir / "metrics.jsonl").exists()


# % if cookiecutter.data == "folder"
def test_a_missing_or_empty_folder_is_named(settings, tmp_path):
    fails({**settings, "data_dir": tmp_path / "nowhere"}, "nowhere/train` does not exist: put images into")
# % else
def test_an_empty_folder_is_named(settings, tmp_path):
# % endif
    (tmp_path / "empty" / "train").mkdir(parents=True)
    fails({**settings, "data_dir": tmp_path / "empty"}, "empty/train` needs at least two classes")


def test_one_class_and_a_class_without_images_are_named(settings):
    (settings["data_dir"] / "train" / "mice").mkdir()
    fails(settings, "mice")
    (settings["data_dir"] / "train" / "mice").rmdir()
    for image in (settings["data_dir"] / "train" / "dogs").iterdir():
        image.unlink()
    (settings["data_dir"] / "train" / "dogs").rmdir()
    fails(settings, r"needs at least two classes, .* but has \['cats'\]")


def test_a_class_only_in_the_test_images_is_named(settings):
    (settings["data_dir"] / "test" / "mice").mkdir()
    Image.new("RGB", (48, 40)).save(settings["data_dir"] / "test" / "mice" / "1.png")
    fails(settings, "different classes in train")


def test_damaged_images_are_named(settings):
    image = settings["data_dir"] / "train" / "cats" / "0.png"
    image.write_bytes(image.read_bytes()[:100])
    (settings["data_dir"] / "test" / "dogs" / "1.png").write_text("no image")
    fails(settings, "(?s)2 images are damaged.*cats/0.png.*dogs/1.png")
    data.check_images(settings["data_dir"], 1, 100_000)  # not in this part


def test_good_images_are_decoded_once_and_again_when_they_change(settings, monkeypatch):
    folder = settings["data_dir"]
    data.check_images(folder, 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        data.check_images(folder, 0, 2)  # also for another number of processes
    image = folder / "train" / "cats" / "0.png"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(ValueError, match="1 images are damaged"):
        data.check_images(folder, 0, 1)
    with pytest.raises(ValueError, match="1 images are damaged"):  # what is damaged is not remembered
        data.check_images(folder, 0, 1)
