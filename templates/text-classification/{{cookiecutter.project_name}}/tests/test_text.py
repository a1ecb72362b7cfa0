"""Padding changes nothing, F1 is right, and bad data raises an error before training starts."""

from collections import Counter
# % if cookiecutter.data == "huggingface"
from pathlib import Path
# % endif

# % if cookiecutter.model == "pretrained"
from paccel.runtime import ConfigError
# % endif
import pytest
import torch
# % if cookiecutter.model == "pretrained"
from transformers import AutoModelForSequenceClassification
# % endif

from data import Splits
# % if cookiecutter.export and cookiecutter.model == "transformer"
import export
# % endif
# % if cookiecutter.model == "transformer"
import tokens
# % endif
import train


def test_f1_is_that_of_class_1_for_two_classes_and_a_mean_for_more():
    two = Counter({(0, 0): 5, (0, 1): 1, (1, 0): 2, (1, 1): 6})
    assert train.f1_score(two) == pytest.approx(2 * 6 / (8 + 7))
    three = Counter({(0, 0): 1, (1, 2): 1, (2, 2): 2})
    assert train.f1_score(three) == pytest.approx((1 + 0 + 2 * 2 / (2 + 3)) / 3)


# % if cookiecutter.model == "transformer"
def test_what_a_text_is_padded_with_does_not_change_its_logits():
    model = train.make_model(train.Config(width=32, vocabulary=512), Splits([], [], [], num_classes=3)).eval()
    short = tokens.encode(("A few words",), 512, 32)
    long = tokens.encode(("camelCase and many more words than the others have, to be the longest",), 512, 32)
    alone, _ = tokens.collate([(short, 0)])
    together, _ = tokens.collate([(short, 0), (long, 1)])
    assert together.shape[1] > alone.shape[1]
    torch.testing.assert_close(model(together)[0], model(alone)[0], rtol=0, atol=1e-5)


# % if cookiecutter.export
def test_what_is_exported_reads_texts_of_any_length(tmp_path, settings):
    train.main(train.Config(run_dir=tmp_path / "run", max_steps=2, max_length=8, trackers=(), **settings))
    chosen = export.ExportConfig(run_dir=tmp_path / "run", formats=("torch",))
    network = torch.export.load(export.main(chosen) / "model.pt2").module()
    text = tokens.encode(("Three short words",), 512, 8)
    padded, _ = tokens.collate([(text, 0), (torch.arange(1, 9), 0)])  # to the maximum length
    torch.testing.assert_close(network(padded[:1]), network(text[None]), rtol=0, atol=1e-5)


# % endif
# % endif
# % if cookiecutter.model == "pretrained"
def test_the_weights_are_those_of_the_folder_in_float32_but_for_a_new_head(settings, tmp_path):
    folder = str(tmp_path / "half")
    half = AutoModelForSequenceClassification.from_pretrained(settings["model"], dtype=torch.bfloat16)
    half.save_pretrained(folder)
    config, splits = train.Config(**settings | {"model": folder}), Splits([], [], [], num_classes=3)
    ours = train.make_model(config, splits, pretrained=True).state_dict()
    others = {name for name, value in half.state_dict().items() if not torch.equal(ours[name], value.float())}
    assert others == {"classifier.weight", "classifier.bias"}
    assert {value.dtype for value in ours.values() if value.is_floating_point()} == {torch.float32}
    random = train.make_model(config, splits).state_dict()
    assert not torch.equal(random["bert.pooler.dense.weight"], ours["bert.pooler.dense.weight"])


def test_weights_that_are_not_there_are_an_error_before_training_starts(tmp_path, settings):
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="The model `.*model` cannot be used: .*no file named"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))


# % endif
def test_texts_longer_than_the_model_can_read_are_an_error_before_training_starts(tmp_path, settings):
    # % if cookiecutter.model == "pretrained"
    with pytest.raises(ValueError, match="`max_length` 65 exceeds the limit of .*: 64 tokens"):
        train.main(train.Config(run_dir=tmp_path / "run", **(settings | {"max_length": 65})))
    # % else
    model = train.make_model(train.Config(**settings, max_length=8), Splits([], [], [], num_classes=2))
    with pytest.raises(ValueError, match="A text has 9 tokens but the model takes at most 8"):
        model(torch.ones(1, 9, dtype=torch.int64))
    # % endif
# % if cookiecutter.data == "csv"


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
    with pytest.raises(ValueError, match="has labels that do not occur in train.csv: neither"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
# % elif cookiecutter.data == "huggingface"


def test_each_split_and_both_texts_are_read(settings):
    splits = train.make_splits(settings["dataset"], "default", ("sentence1", "sentence2"), "label")
    assert [len(split) for split in (splits.train, splits.eval, splits.test)] == [120, 20, 24]
    assert splits.train[1] == (("word 1", "word 2"), 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sentence2", "second", "has no column `sentence2`: it has"),
        ('"label": 1', '"label": 0', "has one class"),
        ('"label": 1', '"label": -1', "has labels that are not in 0 to 1: {-1}"),
        ('"word 4"', "null", "has rows without a text in `sentence1`, `sentence2`"),
    ],
)
def test_bad_datasets_are_an_error_before_training_starts(tmp_path, settings, old, new, message):
    for path in Path(settings["dataset"]).iterdir():
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
# % endif
