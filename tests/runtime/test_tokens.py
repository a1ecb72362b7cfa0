"""Token files: written whole or not at all, checked when opened, and cut into rows that keep documents apart."""

import json
import os
import pickle
import re
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.loading import make

from paccel.runtime.data.fingerprint import fingerprint
from paccel.runtime.errors import ConfigError, DataError
from paccel.runtime.tokens import PADDING, Rows, Tokens, files_of, mask_of, positions_of, tokenized, write_tokens

TEXTS = [b"one\0", b"", b"two and three\0", b"4\0"]


def random_documents(number: int, vocabulary: int = 50, longest: int = 9) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, vocabulary, draw.integers(1, longest)).tolist() for _ in range(number)]


class TestFiles:
    @pytest.mark.parametrize(
        ("vocabulary", "kind"),
        [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65_535, "uint16"), (65_536, "uint16"), (65_537, "uint32")],
    )
    def test_a_token_takes_as_few_bytes_as_the_vocabulary_allows(
        self, vocabulary: int, kind: str, tmp_path: Path
    ) -> None:
        tokens = write_tokens(tmp_path / "train", [[0, vocabulary - 1]], vocabulary)
        assert (tokens.array.dtype, tokens.array.tolist()) == (np.dtype(kind), [0, vocabulary - 1])

    def test_documents_of_bytes_lists_arrays_and_tensors_are_read_back_unchanged(self, tmp_path: Path) -> None:
        given = [b"ab", [1, 2, 3], np.array([4, 5], np.int16), torch.tensor([6])]
        tokens = write_tokens(tmp_path / "train", iter(given), 256)
        assert [tokens.document(n).tolist() for n in range(4)] == [[97, 98], [1, 2, 3], [4, 5], [6]]
        assert (len(tokens), tokens.num_tokens, tokens.num_documents) == (8, 8, 4)
        tokens.verify()

    def test_files_written_in_chunks_are_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = write_tokens(tmp_path / "whole", random_documents(99), 50)
        monkeypatch.setattr("paccel.runtime.data.token_files._AT_ONCE", 10)
        assert write_tokens(tmp_path / "pieces", random_documents(99), 50).content_hash == whole.content_hash

    @pytest.mark.parametrize(
        ("documents", "vocabulary", "message"),
        [
            ([[1], [2, 50]], 50, r"Document 1 has the token 50, but the vocabulary has 50 \(0 to 49\)"),
            ([[1, -1]], 50, "Document 0 has the token -1"),
            ([[0.5]], 50, "must be bytes or a one-dimensional row of integers, not float64"),
            ([[[1]]], 50, r"not int64 of shape \(1, 1\)"),
            ([[], b""], 50, "There are no tokens to write to"),
            ([], 50, "There are no tokens to write to"),
            ([[1]], 0, "A vocabulary must have 1 to"),
        ],
    )
    def test_invalid_tokens_are_an_error_and_the_previous_files_are_kept(
        self, documents: list[Any], vocabulary: int, message: str, tmp_path: Path
    ) -> None:
        before = write_tokens(tmp_path / "train", TEXTS, 256)
        with pytest.raises((DataError, ConfigError), match=message):
            write_tokens(tmp_path / "train", documents, vocabulary)
        assert len(list((tmp_path / "train").iterdir())) == 3
        Tokens(tmp_path / "train").verify()
        assert before.document(2).tobytes() == b"4\0"

    def test_damage_is_named(self, tmp_path: Path) -> None:
        folder = tmp_path / "train"
        whole = write_tokens(folder, [range(200)] * 5000, 256)
        (file,), (starts,) = folder.glob("tokens-*.bin"), folder.glob("documents-*.bin")
        good = file.read_bytes()
        for bad in (good[:-1], b"", good[:-4] + b"\1\1\1\1", b"\x09" + good[1:]):
            file.write_bytes(bad)
            with pytest.raises(DataError, match=r"tokens-.*.bin` does not match `index.json` beside it"):
                Tokens(folder)
        flipped = bytearray(good)
        flipped[100_000] ^= 1  # in a part that is not probed when files are opened
        file.write_bytes(flipped)
        with pytest.raises(DataError, match="is damaged: its SHA-256 differs"):
            Tokens(folder).verify()
        file.write_bytes(good)
        whole.verify()
        starts.unlink()
        with pytest.raises(DataError, match=r"documents-.*.bin` is missing"):
            Tokens(folder)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (None, "has no token files: there is no `index.json`; tokenize the text first"),
            ("{", "is not an index of token files"),
            ("[]", "is not an index of token files"),
            ('{"format": 1}', "is not an index of token files"),
            (
                '{"format": 2, "type": "uint8", "files": {}}',
                "has the format 2, but this paccel reads 1: upgrade paccel",
            ),
        ],
    )
    def test_an_index_that_cannot_be_read_is_named(self, index: str | None, message: str, tmp_path: Path) -> None:
        if index is not None:
            (tmp_path / "index.json").write_text(index)
        with pytest.raises(DataError, match=message):
            Tokens(tmp_path)

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not cut a file that is mapped")
    @pytest.mark.parametrize("is_mapped", [False, True])
    def test_files_truncated_or_rewritten_while_a_run_reads_them_are_named(
        self, is_mapped: bool, tmp_path: Path
    ) -> None:
        """Reading a page beyond the end of a truncated mapping kills the process."""
        rows = Rows(write_tokens(tmp_path, [range(200)] * 1000, 256), 8)
        (file,) = tmp_path.glob("tokens-*.bin")
        data, last = file.read_bytes(), len(rows) - 1
        if is_mapped:
            rows[0]
        os.utime(file, ns=(1, 1))
        assert rows[1][0].tolist() == list(range(8, 16)), "only its time has changed"
        os.truncate(file, 5000)
        with pytest.raises(DataError, match=r"tokens-.*\.bin` does not match `index\.json` beside it"):
            rows[last]
        file.write_bytes(b"\7" * len(data))
        with pytest.raises(DataError, match=r"tokens-.*\.bin` does not match"):
            rows[last]

    def test_a_running_process_keeps_its_tokens_when_others_are_written(self, tmp_path: Path) -> None:
        rows = Rows(write_tokens(tmp_path, [range(100)], 256), 8)
        before = rows[3][0].tolist()
        write_tokens(tmp_path, [[1], [2]], 256)
        assert rows[3][0].tolist() == before

    @pytest.mark.skipif(os.name == "nt", reason="needs pipes")
    @pytest.mark.parametrize("name", ["index.json", "tokens-*.bin", "documents-*.bin"])
    def test_a_pipe_or_folder_in_place_of_a_file_is_an_error_and_does_not_block(
        self, name: str, tmp_path: Path
    ) -> None:
        write_tokens(tmp_path, [[1, 2]], 256)
        (path,) = tmp_path.glob(name)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DataError, match=r"it is not a regular file|does not match"):
            Tokens(tmp_path)
        path.unlink()
        path.mkdir()
        with pytest.raises(DataError, match=r"it is not a regular file|does not match"):
            Tokens(tmp_path)

    def test_a_folder_that_is_a_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "train").write_text("")
        with pytest.raises(DataError, match="train` for token files cannot be created"):
            tokenized(tmp_path / "train", lambda: [[1, 2]], 256, {})

    def test_unpickled_tokens_map_the_same_files_and_refuse_others(self, tmp_path: Path) -> None:
        tokens = write_tokens(tmp_path / "train", [range(100)] * 1000, 256)
        assert len(tokens.array) == 100_000
        small = pickle.dumps(tokens)
        assert len(small) < 2000
        assert pickle.loads(small).document(7).tolist() == list(range(100))
        write_tokens(tmp_path / "train", [[1, 2]], 256)
        with pytest.raises(DataError, match="was tokenized again while a run reads it"):
            pickle.loads(small)


class TestOnce:
    def test_they_are_written_once_and_again_if_the_input_has_changed(self, tmp_path: Path) -> None:
        text = tmp_path / "text.txt"
        text.write_text("some text")
        written = []

        def documents() -> Iterator[bytes]:
            written.append(text.read_bytes())
            yield text.read_bytes()

        def get(vocabulary: int = 256, **settings: object) -> bytes:
            source = {"files": files_of([text], tmp_path), **settings}
            return tokenized(tmp_path / "tokens", documents, vocabulary, source).document(0).tobytes()

        assert (get(), get(), len(written)) == (b"some text", b"some text", 1)
        text.write_text("some t3xt")
        assert (get(), get(), len(written)) == (b"some t3xt", b"some t3xt", 2)
        get(lowercase=True)
        get(300, lowercase=True)
        assert len(written) == 4
        assert len(list((tmp_path / "tokens").iterdir())) == 3

    @pytest.mark.slow
    @pytest.mark.skipif(os.name == "nt", reason="needs fork")
    def test_killed_at_any_time_it_leaves_the_old_files_or_the_new_ones(self, tmp_path: Path) -> None:
        folder, fork = tmp_path / "train", get_context("fork")
        seen = set()
        for number in range(15):
            writer = fork.Process(target=write_tokens, args=(folder, [[number] * 9] * 20_000, 256))
            writer.start()
            time.sleep(0.003 * number)
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join(10)
            if (folder / "index.json").exists():
                tokens = Tokens(folder)
                tokens.verify()
                assert len(set(tokens.array.tolist())) == 1
                seen.add(tokens.array[0])
        write_tokens(folder, [[77]], 256)
        assert not list(folder.glob("*.tmp")), "leftovers of the killed ones are removed"

    @pytest.mark.slow
    @pytest.mark.skipif(os.name == "nt", reason="needs fork")
    def test_several_processes_may_write_at_the_same_time(self, tmp_path: Path) -> None:
        fork, folder = get_context("fork"), tmp_path / "train"
        write_tokens(folder, [[1] * 9], 256)
        writers = [fork.Process(target=write_tokens, args=(folder, [[2] * 9] * 3000, 256)) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
        Tokens(folder).verify()
        assert len(list(folder.iterdir())) == 3


class TestRows:
    @pytest.mark.parametrize("context", [1, 7, 16, 64, 1000])
    def test_each_token_but_the_first_is_predicted_once_from_those_before_it(
        self, context: int, tmp_path: Path
    ) -> None:
        tokens = write_tokens(tmp_path / "train", random_documents(40), 50)
        rows = Rows(tokens, context)
        inputs, targets = (torch.stack(parts) for parts in zip(*rows.__getitems__(range(len(rows))), strict=True))
        predicted = targets != PADDING
        assert targets[predicted].tolist() == tokens.array[1:].tolist()
        assert inputs[predicted].tolist() == tokens.array[:-1].tolist()
        assert (inputs.dtype, targets.dtype, len(inputs)) == (torch.int32, torch.int64, len(rows))
        assert all(torch.equal(a, b) for a, b in zip(rows[-1], rows[len(rows) - 1], strict=True))
        with pytest.raises(IndexError):
            rows[len(rows)]

    @pytest.mark.parametrize("context", [1, 7, 16, 64, 1000])
    def test_with_documents_each_token_but_the_first_of_its_document_is_predicted_once(
        self, context: int, tmp_path: Path
    ) -> None:
        documents = random_documents(40)
        rows = Rows(write_tokens(tmp_path / "train", documents, 50), context, documents=True)
        samples = rows.__getitems__(range(len(rows)))
        targets = torch.cat([sample[1] for sample in samples])
        assert targets[targets != PADDING].tolist() == [token for document in documents for token in document[1:]]
        place, numbers = 0, [number for number, document in enumerate(documents) for _ in document]
        for _, _, found in samples:
            expected = numbers[place : place + context]
            first = expected[0]
            assert found[: len(expected)].tolist() == [number - first for number in expected]
            assert not set(found[len(expected) :].tolist()) & {number - first for number in expected}
            place += context

    def test_positions_restart_and_the_mask_ends_with_each_document(self) -> None:
        documents = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0]])
        assert positions_of(documents).tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]]
        mask = mask_of(documents)
        assert mask.shape == (2, 1, 6, 6)
        for row in range(2):
            for query in range(6):
                for seen in range(6):
                    same = documents[row, query] == documents[row, seen] and seen <= query
                    assert mask[row, 0, query, seen] == same

    def test_packed_documents_have_the_logits_and_the_loss_of_each_run_by_itself(self, tmp_path: Path) -> None:
        """With learned absolute positions, both the mask and the positions must be right."""
        torch.manual_seed(0)
        documents, width = random_documents(30, longest=20), 16
        embedding, places, out = (
            torch.nn.Embedding(50, width),
            torch.nn.Embedding(64, width),
            torch.nn.Linear(width, 50),
        )
        for layer in (embedding, places, out):
            layer.double()

        def run(inputs: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            x = (embedding(inputs) + places(positions))[:, None]
            return out(torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)[:, 0])

        def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="sum"
            )

        (row,) = Rows(write_tokens(tmp_path / "train", documents, 50), 1000, documents=True)
        inputs, targets, numbers = (part[None, : sum(map(len, documents))] for part in row)
        positions = positions_of(numbers)
        packed = run(inputs, positions, mask_of(numbers))
        alone = [
            run(torch.tensor([d]), torch.arange(len(d))[None], torch.ones(len(d), len(d), dtype=torch.bool).tril())
            for d in documents
        ]
        torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=0, atol=1e-12)
        each = [
            loss(logits[:, :-1], torch.tensor([d[1:]], dtype=torch.int64))
            for logits, d in zip(alone, documents, strict=True)
        ]
        torch.testing.assert_close(loss(packed, targets), torch.stack(each).sum(), rtol=0, atol=1e-9)

    def test_an_empty_row_and_a_single_token_are_errors(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="`context` must be at least 1, not 0"):
            Rows(write_tokens(tmp_path / "two", [[1, 2]], 256), 0)
        with pytest.raises(DataError, match="has a single token"):
            Rows(write_tokens(tmp_path / "one", [[1]], 256), 4)

    def test_other_tokens_of_the_same_length_have_another_fingerprint(self, tmp_path: Path) -> None:
        one, other = (Rows(write_tokens(tmp_path / name, [name.encode() * 9], 256), 4) for name in "ab")
        assert len(one) == len(other)
        assert fingerprint(one) != fingerprint(other)
        assert fingerprint(one) == fingerprint(Rows(Tokens(tmp_path / "a"), 4))

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_workers_read_the_same_rows(self, method: str, tmp_path: Path) -> None:
        rows = Rows(write_tokens(tmp_path / "train", random_documents(90), 50), 8, documents=True)
        batches = {}
        for workers in (0, 2):
            loader = make(
                rows, num_workers=workers, worker_options={"multiprocessing_context": method} if workers else {}
            )
            batches[workers] = [part for batch, _ in loader.fetch(loader.training_parts(1, 0, 1)) for part in batch]
            loader.close()
        assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[2], strict=True))


def test_the_index_describes_the_tokens(tmp_path: Path) -> None:
    write_tokens(tmp_path / "train", TEXTS, 256, {"dataset": "mine"})
    index = json.loads((tmp_path / "train" / "index.json").read_text())
    assert {k: index[k] for k in ("format", "type", "tokens", "documents", "vocabulary", "source")} == {
        "format": 1,
        "type": "uint8",
        "tokens": 20,
        "documents": 3,
        "vocabulary": 256,
        "source": {"dataset": "mine"},
    }
    assert all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in index["files"].values())
