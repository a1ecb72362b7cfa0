"""Shards as other tools write them, and the defects of each format."""

import io
import tarfile
from pathlib import Path

import pytest
from support.shards import write

from paccel.runtime.errors import ConfigError, DataError
from paccel.runtime.shards import Shards


def tar(path: Path, *members: tuple[str, bytes | str], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar file of names and contents; text in place of bytes is the target of a symbolic link, or after `=` of a hard one."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                member.linkname = content.removeprefix("=")
                archive.addfile(member)
            elif name.endswith("/"):
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


class TestTar:
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_folders_links_and_names_of_any_kind_as_other_tools_write_them(self, form: int, tmp_path: Path) -> None:
        long = "" if form == tarfile.USTAR_FORMAT else "long-" * 60
        path = tar(
            tmp_path / "0.tar",
            ("a/", b""),
            ("README", b"no sample"),
            ("a/.hidden", b"no sample either"),
            (f"a/{long}ä.seg.PNG", b"seg"),
            (f"a/{long}ä.JPG", b"jpg"),
            ("b/1.jpg", "=a/" + long + "ä.JPG"),
            ("b/1.json", b"{}"),
            ("c/2.jpg", "../b/1.jpg"),
            form=form,
        )
        assert [Shards(path)[n] for n in range(3)] == [
            {"__key__": f"a/{long}ä", "seg.png": b"seg", "jpg": b"jpg"},
            {"__key__": "b/1", "jpg": b"jpg", "json": b"{}"},
            {"__key__": "c/2", "jpg": b"jpg"},
        ]

    def test_the_files_of_a_sample_need_not_follow_each_other(self, tmp_path: Path) -> None:
        path = tar(tmp_path / "0.tar", ("1.jpg", b"x"), ("2.jpg", b"yy"), ("1.txt", b""), ("2.txt", b"z"))
        assert Shards(path).__getitems__([1, 0]) == [
            {"__key__": "2", "jpg": b"yy", "txt": b"z"},
            {"__key__": "1", "jpg": b"x", "txt": b""},
        ]

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([("1.jpg", b"x"), ("1.JPG", b"y")], r"1\.tar` is damaged.*`1\.JPG` occurs twice"),
            ([("1.jpg", "nowhere.jpg")], r"`1\.jpg` is a link to `nowhere\.jpg`, which is not a file in this shard"),
            ([("1.jpg", "2.jpg"), ("2.jpg", "1.jpg")], r"`1\.jpg` is a link that does not lead to a file"),
            (
                [("0.txt", b"y"), ("1.txt", b"y")],
                r"the sample `0` begins in `.*0\.tar`: all files of a sample must be in",
            ),
        ],
    )
    def test_an_incomplete_sample_names_the_shard_and_the_file(
        self, members: list[tuple[str, bytes | str]], message: str, tmp_path: Path
    ) -> None:
        tar(tmp_path / "0.tar", ("0.jpg", b"x"))
        tar(tmp_path / "1.tar", *members)
        with pytest.raises(DataError, match=message):
            Shards(tmp_path)

    def test_a_damaged_header_names_the_file_before_it(self, tmp_path: Path) -> None:
        path = tar(tmp_path / "0.tar", *((f"{n}.bin", b"x") for n in range(9)))
        data = bytearray(path.read_bytes())
        data[5 * 1024 + 3] ^= 1
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"0\.tar` is damaged.*damaged after `4\.bin` at 5120"):
            Shards(tmp_path)


class TestLines:
    def test_byte_order_mark_blank_lines_and_windows_line_ends_are_skipped(self, tmp_path: Path) -> None:
        (tmp_path / "0.jsonl").write_bytes(b'\xef\xbb\xbf{"n": 0}\r\n\r\n{"n": 1}\r\n \n{"n": 2}')
        (tmp_path / "1.jsonl").write_bytes(b"")
        (tmp_path / "2.jsonl").write_bytes(b'\n{"n": 3}\n')
        shards = Shards(tmp_path)
        assert [shards[n]["n"] for n in range(len(shards))] == [0, 1, 2, 3]

    def test_a_line_that_is_not_json_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "0.jsonl").write_text('{"n": 0}\n{"n"\n{"n": 2}\n')
        with pytest.raises(
            DataError, match=r"Line 2 of `.*0\.jsonl` is not valid JSON \(Expecting .* at column 5\): fix it"
        ):
            Shards(tmp_path)[1]
        (tmp_path / "blank.jsonl").write_bytes(b'\n\n{"n": 0}\r\n\n\n' + b"[" * 100_000 + b'\n{"n": 2}\n')
        with pytest.raises(DataError, match=r"Line 6 of `.*blank\.jsonl` is not valid JSON \(maximum recursion"):
            Shards(tmp_path / "blank.jsonl", index=tmp_path / "blank")[1]
        (tmp_path / "1.jsonl").write_text('{"n": 0}\n{"n"')
        with pytest.raises(DataError, match=r"1\.jsonl` is damaged.*line 2 is not valid JSON"):
            Shards(tmp_path / "1.jsonl", index=tmp_path / "other")


class TestParquet:
    def test_nulls_nested_columns_empty_row_groups_and_empty_files_are_read_as_by_arrow(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = pyarrow.table(
            {
                "number": [1, None, 3],
                "list": [[1, 2], None, []],
                "struct": [{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}],
                "words": pyarrow.array(["u", None, "u"]).dictionary_encode(),
                "map": pyarrow.array([[("k", 1)], None, []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
                "bytes": [b"x", None, b""],
            }
        )
        parquet.write_table(table.slice(0, 0), tmp_path / "0.parquet")
        with parquet.ParquetWriter(tmp_path / "1.parquet", table.schema) as writer:
            for start, length in ((0, 0), (0, 2), (2, 0), (2, 1)):
                writer.write_table(table.slice(start, length))
        parquet.write_table(pyarrow.table({"other": ["x"]}), tmp_path / "2.parquet")
        shards = Shards(tmp_path)
        assert shards.__getitems__(range(4)) == [*table.to_pylist(), {"other": "x"}]
        assert sorted(shards.in_blocks(seed=1)(1).tolist()) == [0, 1, 2, 3]

    def test_two_columns_of_the_same_name_are_an_error(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = [pyarrow.array([1]), pyarrow.array([2])]
        parquet.write_table(pyarrow.Table.from_arrays(columns, names=["a", "a"]), tmp_path / "0.parquet")
        with pytest.raises(DataError, match=r"0\.parquet` is damaged.*two columns `a`"):
            Shards(tmp_path)

    def test_a_missing_package_is_named_and_the_shard_is_not_called_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("pyarrow")
        write(tmp_path / "0.parquet", range(3))

        def missing(module: str) -> None:
            raise ModuleNotFoundError(f"No module named {module!r}", name="pyarrow")

        monkeypatch.setattr("paccel.runtime.data.shards.store.import_module", missing)
        with pytest.raises(ConfigError, match=r"^`.*0\.parquet` needs pyarrow: `pip install pyarrow`$"):
            Shards(tmp_path)
