"""What is this project's own: padding that changes nothing, F1, errors before training starts."""

from collections import Counter

from paccel.runtime import ConfigError
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import train


def test_f1_is_that_of_class_1_for_two_classes_and_a_mean_for_more():
    two = Counter({(0, 0): 5, (0, 1): 1, (1, 0): 2, (1, 1): 6})
    assert train.f1_score(two) == pytest.approx(2 * 6 / (8 + 7))
    three = Counter({(0, 0): 1, (1, 2): 1, (2, 2): 2})
    assert train.f1_score(three) == pytest.approx((1 + 0 + 2 * 2 / (2 + 3)) / 3)


def test_the_weights_are_those_of_the_folder_in_float32_but_for_a_new_head(settings, tmp_path):
    folder = str(tmp_path / "half")
    half = AutoModelForSequenceClassification.from_pretrained(settings["model"], dtype=torch.bfloat16)
    half.save_pretrained(folder)
    ours = train.make_model(folder, 3, 32, pretrained=True).state_dict()
    others = {name for name, value in half.state_dict().items() if not torch.equal(ours[name], value.float())}
    assert others == {"classifier.weight", "classifier.bias"}
    assert {value.dtype for value in ours.values() if value.is_floating_point()} == {torch.float32}
    random = train.make_model(folder, 3, 32, pretrained=False).state_dict()
    assert not torch.equal(random["bert.pooler.dense.weight"], ours["bert.pooler.dense.weight"])


def test_weights_that_are_not_there_are_an_error_before_training_starts(tmp_path, settings):
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="The model `.*model` cannot be used: .*no file named"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))


def test_texts_longer_than_the_model_can_read_are_an_error_before_training_starts(tmp_path, settings):
    with pytest.raises(ValueError, match="`max_length` 65 is longer than the limit of .*: 64 tokens"):
        train.main(train.Config(run_dir=tmp_path / "run", **(settings | {"max_length": 65})))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("text,label", "words,label", "has no column `text`: it has words, label"),
        ("minus", "plus", "has one class, `plus`"),
        ("word 3,minus", "word 3,", "has no label in row 4"),
        ("good word 4,", ",", "has no text in row 5"),
    ],
)
def test_bad_files_are_an_error_before_training_starts(tmp_path, settings, data_dir, old, new, message):
    path = data_dir / "train.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))


def test_a_file_of_nothing_but_names_is_an_error_before_training_starts(tmp_path, settings, data_dir):
    (data_dir / "test.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match="test.csv` has no rows below its header"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))


def test_a_label_that_training_does_not_have_is_an_error_before_it_starts(tmp_path, settings, data_dir):
    path = data_dir / "test.csv"
    path.write_text(path.read_text().replace("plus", "neither"))
    with pytest.raises(ValueError, match="has labels that train.csv does not have: neither"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
