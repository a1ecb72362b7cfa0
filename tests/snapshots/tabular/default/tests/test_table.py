"""Nothing is computed from held-out rows, and bad data raises an error before training starts."""

import pytest
import torch

from data import make_splits
import train


def test_numbers_are_standardised_and_categories_known_by_the_training_rows_alone(table):
    splits = make_splits(table, "target", ("colour",))
    numbers, categories, _ = splits.train.tensors
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(numbers.std(0), torch.ones(2), atol=1e-5, rtol=0)
    assert splits.category_sizes == [4]
    assert sorted(categories.unique().tolist()) == [1, 2, 3]
    held_out, _, _ = splits.test.tensors
    assert held_out.mean(0).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (0, "target", "goal", "has no column `target`: it has size, weight, colour, goal"),
        (4, ",red", ",red,red", "different number of cells than column names in line 5"),
        (4, "3,red", "three,red", "The column `weight` has `three` in line 5, which is not a number"),
    ],
)
def test_a_table_with_a_mistake_is_an_error_before_training_starts(tmp_path, settings, table, line, old, new, message):
    lines = table.read_text().splitlines()
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    table.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))


def test_a_table_with_nothing_but_the_target_is_an_error_before_training_starts(tmp_path, settings, table):
    table.write_text("\n".join(line.rpartition(",")[2] for line in table.read_text().splitlines()))
    with pytest.raises(ValueError, match="has no column besides `target`"):
        train.main(train.Config(run_dir=tmp_path / "run", **(settings | {"categorical": ()})))


def test_a_target_that_is_always_the_same_is_an_error_before_training_starts(tmp_path, settings, table):
    names, *rows = table.read_text().splitlines()
    table.write_text("\n".join([names, *(row.rpartition(",")[0] + ",5" for row in rows)]))
    with pytest.raises(ValueError, match="is 5.0 in all rows"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
