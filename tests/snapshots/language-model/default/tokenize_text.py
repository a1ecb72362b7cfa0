"""Write the token files before training, and check every byte of existing ones.

    python tokenize_text.py                   with the settings of train.py: see its `--help`

`train.py` and `evaluate.py` write missing or outdated token files themselves; use this script for large text, on a
machine without a GPU. (A file named `tokenize.py` would hide Python's own module.)
"""

from paccel.runtime import exit_with_message, load_config

from data import Splits
from evaluate import load_splits
from train import Config


def main(config: Config) -> Splits:
    splits = load_splits(config)
    for name, rows in (("train", splits.train), ("eval", splits.eval), ("test", splits.test)):
        tokens = rows.tokens
        tokens.verify()
        print(f"{name}: {tokens.num_tokens:,} tokens in {tokens.num_documents:,} documents, {tokens.folder}")
    return splits


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(Config))
