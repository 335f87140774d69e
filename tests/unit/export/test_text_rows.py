"""Texts of a file answered into another file, in every pair of formats."""

import csv
import json
import tracemalloc
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from naics_job.errors import ConfigError, DataError
from naics_job.export import row_sinks, row_sources
from naics_job.export.text_rows import Answer, RowCounts, RowFiles, answer_rows, check_files

RESULTS = pa.schema([("rank1_code", pa.string()), ("rank1_distance", pa.float64())])
FORMATS = ("csv", "tsv", "jsonl", "parquet")
LONG = "organic soybean farm " * 5000  # 105 thousand characters
TEXTS = [
    "soybean farm",
    'a "quoted", listed\nand broken\r\ntext\twith a tab',
    " café 中文 🍞 ",
    LONG,
    *(f"text {number}" for number in range(20)),
]
ROWS = [{"id": f"00{n}", "text": text, "note": "x,y" * n} for n, text in enumerate(TEXTS)]


def upper(texts: Sequence[str]) -> list[Answer]:
    """Answers that tell which text they belong to."""
    return [{"rank1_code": text.upper(), "rank1_distance": len(text) / 4} for text in texts]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    ending = path.suffix[1:]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if ending == "tsv" else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    ending = path.suffix[1:]
    if ending == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if ending == "jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if ending == "tsv" else ","))


def run(source: Path, target: Path, **settings: Any) -> RowCounts:
    return answer_rows(RowFiles(str(source), str(target), **settings), RESULTS, upper)


def errors(source: Path, target_ending: str = "jsonl", **settings: Any) -> list[str | None]:
    """What the column `error` says of each row, after a look at the other added columns."""
    target = source.with_name(f"out.{target_ending}")
    counts = run(source, target, **settings)
    rows = read(target)
    for row in rows:
        assert (row["rank1_code"] is None) == (row["rank1_distance"] is None)
        assert (row["rank1_code"] is None) == (row["error"] is not None)
    found = [row["error"] for row in rows]
    assert counts == RowCounts(len(rows), len(rows) - found.count(None))
    return found


@pytest.fixture(autouse=True)
def _short_fields_for_the_tests() -> Any:
    limit = csv.field_size_limit(1 << 20)  # of the reading here, where the text is 105 thousand
    yield
    csv.field_size_limit(limit)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_row_keeps_its_columns_and_place(tmp_path: Path, source: str, target: str) -> None:
    given = write(tmp_path / f"in.{source}", ROWS)
    counts = run(given, tmp_path / f"out.{target}", block_rows=7)
    assert counts == RowCounts(len(ROWS), 0)
    rows = read(tmp_path / f"out.{target}")
    empty, typed = ("", str) if target in ("csv", "tsv") else (None, float)
    assert rows == [
        {
            **row,
            "rank1_code": row["text"].upper(),
            "rank1_distance": typed(len(row["text"]) / 4),
            "error": empty,
        }
        for row in ROWS
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in.{source}", f"out.{target}"]


@pytest.mark.parametrize("source", FORMATS)
def test_another_column_may_hold_the_texts(tmp_path: Path, source: str) -> None:
    given = write(tmp_path / f"in.{source}", [{"text": "no", "what": "yes"}])
    run(given, tmp_path / "out.jsonl", text_column="what")
    assert read(tmp_path / "out.jsonl")[0]["rank1_code"] == "YES"


@pytest.mark.parametrize("source", FORMATS)
def test_a_missing_column_of_texts_is_named(tmp_path: Path, source: str) -> None:
    given = write(tmp_path / f"in.{source}", [{"id": "1", "title": "yes"}])
    with pytest.raises(DataError, match=r"has no column 'text'; it has id, title") as error:
        run(given, tmp_path / "out.csv")
    assert "--text-column" in error.value.hint
    assert not (tmp_path / "out.csv").exists()


def test_broken_rows_of_csv(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(
        b"\xef\xbb\xbftext,id\r\n"
        b"good,1\r\n"
        b",2\r\n"
        b"  ,3\r\n"
        b"\r\n"  # no row
        b"few\r\n"
        b"many,5,6\r\n"
        b'"two\r\nlines",6\r\n'
        b'"wrong"quote,7\r\n'
        b"caf\xe9,8\r\n"
        b"last,9\r\n"
        b'"open,10\r\n'
    )
    assert errors(tmp_path / "in.csv") == [
        None,
        "the text is empty",
        "the text is empty",
        "line 6 has 1 fields, not 2",
        "line 7 has 3 fields, not 2",
        None,
        "line 10 is broken: ',' expected after '\"'",
        "line 11 is not UTF-8",
        None,
        "line 13 is broken: unexpected end of data",
    ]
    rows = read(tmp_path / "out.jsonl")
    assert [row.get("id") for row in rows] == ["1", "2", "3", None, "5", "6", None, "8", "9", None]
    assert (rows[5]["text"], rows[7]["text"]) == ("two\r\nlines", "caf\ufffd")
    assert rows[8]["rank1_code"] == "LAST"


def test_an_empty_line_is_a_row_where_there_is_one_column(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na\n\nb\n")
    assert errors(tmp_path / "in.csv") == [None, "the text is empty", None]


def test_broken_rows_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(
        b'\xef\xbb\xbf{"id": 1, "text": "good"}\n'
        b'{"id": 2, "text": ""}\n'
        b'{"id": 3, "text": null}\n'
        b'{"id": 4}\n'
        b"\n"  # no row
        b'{"id": 5, "text": 12}\n'
        b'{"id": 6, "text": ["a"]}\n'
        b'{"id": 7, "text": "cut\n'
        b'["text"]\n'
        b'{"id": 9, "text": "\\ud83c"}\n'
        b'{"id": 10, "text": "\xe9"}\n' + b"[" * 200_000 + b"\n"
        b'{"id": 12, "text": "\\ud83c\\udf5e", "more": {"a": [1]}}'
    )
    expected = [
        None,
        "the text is empty",
        "the text is missing",
        "the text is missing",
        "the text is a number",
        "the text is a list",
        "line 8 is not JSON",
        "line 9 is not a JSON object",
        "line 10 has half a character",
        "line 11 is not JSON",
        "line 12 is not JSON",
        None,
    ]
    assert errors(tmp_path / "in.jsonl") == expected
    rows = read(tmp_path / "out.jsonl")
    assert rows[5] == {
        **{"id": 6, "text": ["a"], "rank1_code": None, "rank1_distance": None},
        "error": "the text is a list",
    }
    assert (rows[-1]["text"], rows[-1]["more"]) == ("🍞", {"a": [1]})
    assert errors(tmp_path / "in.jsonl", "parquet") == expected
    assert pq.read_table(tmp_path / "out.parquet")["more"].to_pylist()[-1] == '{"a": [1]}'


def test_broken_rows_of_parquet(tmp_path: Path) -> None:
    texts = pa.array(["a", None, "", "b"]).dictionary_encode()
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    found = errors(tmp_path / "in.parquet", "parquet", block_rows=3)
    assert found == [None, "the text is missing", "the text is empty", None]


def test_an_answer_may_be_a_reason(tmp_path: Path) -> None:
    given = write(tmp_path / "in.csv", [{"text": "a"}, {"text": "b"}])
    asked = RowFiles(str(given), str(tmp_path / "out.jsonl"))
    some = {"rank1_code": "111", "rank1_distance": 0.5}
    assert answer_rows(asked, RESULTS, lambda texts: ["no word", some]) == RowCounts(2, 1)
    assert read(tmp_path / "out.jsonl") == [
        {"text": "a", "rank1_code": None, "rank1_distance": None, "error": "no word"},
        {"text": "b", **some, "error": None},
    ]


def test_columns_of_json_lines_that_come_later(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "n": n} for n in range(9)]
    rows += [{"text": "x", "n": 2.5, "late": True, "big": 2**60}, {"text": "y", "big": 2**70}]
    given = write(tmp_path / "in.jsonl", rows)
    run(given, tmp_path / "out.parquet", block_rows=2)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("n").type == pa.float64()
    assert table["late"].to_pylist() == [None] * 9 + [True, None]
    assert table["big"].to_pylist()[9:] == [str(2**60), str(2**70)]
    run(given, tmp_path / "out.csv", block_rows=2)
    assert read(tmp_path / "out.csv")[9] == {
        **{"text": "x", "n": "2.5", "late": "true", "big": str(2**60)},
        **{"rank1_code": "X", "rank1_distance": "0.25", "error": ""},
    }


def test_types_of_parquet_stay_and_are_readable_elsewhere(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b"], pa.large_string()),
            "when": pa.array([datetime(2026, 1, 2), None], pa.timestamp("ns")),
            "price": pa.array([Decimal("1.10"), Decimal("2.00")], pa.decimal128(8, 2)),
            "tags": pa.array([["x"], []], pa.list_(pa.string())),
            "number": pa.array([7, None], pa.int32()),
        }
    ).replace_schema_metadata({"origin": "test"})
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").select(table.column_names)
    assert out.equals(pq.read_table(tmp_path / "in.parquet"), check_metadata=True)
    run(tmp_path / "in.parquet", tmp_path / "out.csv")
    first = read(tmp_path / "out.csv")[0]
    assert first["when"].startswith("2026-01-02 00:00:00")
    assert (first["price"], first["tags"], first["number"]) == ("1.10", '["x"]', "7")


@pytest.mark.parametrize("target", ["csv", "jsonl"])
def test_bytes_need_parquet(tmp_path: Path, target: str) -> None:
    rows = {"text": ["a"], "raw": pa.array([[b"\xff"]])}
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    with pytest.raises(ConfigError, match="'raw' holds list") as error:
        run(tmp_path / "in.parquet", tmp_path / f"out.{target}")
    assert ".parquet" in error.value.hint


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_no_more_than_some_blocks_are_in_memory(
    tmp_path: Path, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_sinks, "GROUP_BYTES", 2 << 20)
    limit = 12 << 20
    rows = [{"id": str(n), "text": f"{n} " + LONG} for n in range(300)]  # 32 MB
    given = tmp_path / f"in.{source}"
    if source == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), given, row_group_size=20)
    else:
        write(given, rows)
    del rows
    before, tables = pa.total_allocated_bytes(), [0]

    def short(texts: Sequence[str]) -> list[Answer]:
        assert len(texts) <= 8
        tables.append(pa.total_allocated_bytes() - before)
        return [{"rank1_code": text[:6], "rank1_distance": 1.0} for text in texts]

    tracemalloc.start()
    try:
        asked = RowFiles(str(given), str(tmp_path / f"out.{target}"), block_rows=8)
        assert answer_rows(asked, RESULTS, short) == RowCounts(300, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit
    assert max(tables) < limit


@pytest.mark.parametrize("source", FORMATS)
def test_progress_is_told_after_each_block(tmp_path: Path, source: str) -> None:
    given = write(tmp_path / f"in.{source}", ROWS[:10])
    told: list[tuple[int, int | None]] = []
    asked = RowFiles(str(given), str(tmp_path / "out.csv"), block_rows=4)
    answer_rows(asked, RESULTS, upper, lambda done, total: told.append((done, total)))
    total = 10 if source in ("jsonl", "parquet") else None
    assert told == [(4, total), (8, total), (10, total)]


@pytest.mark.parametrize("target", FORMATS)
def test_a_failure_leaves_the_target_as_it_was(tmp_path: Path, target: str) -> None:
    given = write(tmp_path / "in.csv", ROWS)
    (tmp_path / f"out.{target}").write_text("old")

    def fail(texts: Sequence[str]) -> list[Answer]:
        if ROWS[8]["text"] in texts:
            raise ValueError("stop")
        return upper(texts)

    asked = RowFiles(str(given), str(tmp_path / f"out.{target}"), block_rows=4)
    with pytest.raises(ValueError, match="stop"):
        answer_rows(asked, RESULTS, fail)
    assert (tmp_path / f"out.{target}").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("ending", FORMATS)
def test_files_may_be_urls(tmp_path: Path, ending: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/rows/in.{ending}", write(tmp_path / f"in.{ending}", ROWS).read_bytes())
    asked = RowFiles(f"memory://rows/in.{ending}", f"memory://rows/out.{ending}")
    assert answer_rows(asked, RESULTS, upper) == RowCounts(len(ROWS), 0)
    (tmp_path / f"got.{ending}").write_bytes(memory.cat_file(f"/rows/out.{ending}"))
    assert [row["text"] for row in read(tmp_path / f"got.{ending}")] == TEXTS


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_without_rows_gives_one_without_rows(tmp_path: Path, ending: str) -> None:
    content = {"csv": b"text,id\n", "tsv": b"text\tid\n", "jsonl": b""}
    if ending == "parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    else:
        (tmp_path / f"in.{ending}").write_bytes(content[ending])
    assert run(tmp_path / f"in.{ending}", tmp_path / f"out.{ending}") == RowCounts(0, 0)
    assert read(tmp_path / f"out.{ending}") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "has no header"),
        ("in.csv", b"\xff\xfet\x00", "is UTF-16"),
        ("in.csv", b"text,text\na,b\n", "two columns 'text'"),
        ("in.parquet", b"no such thing", "cannot read"),
        ("in.jsonl", b"no JSON at all\n", "has no column 'text'; it has none"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        run(tmp_path / name, tmp_path / "out.csv")
    assert error.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    given = write(tmp_path / "in.parquet", ROWS)
    content = bytearray(given.read_bytes())
    content[4:200] = bytes(196)  # pages, while the footer is whole
    given.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*in\.parquet"):
        run(given, tmp_path / "out.csv")


def test_texts_that_are_numbers_are_refused_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="holds int64, not strings"):
        run(tmp_path / "in.parquet", tmp_path / "out.csv")


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_line_without_an_end_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_sources, "MAX_ROW_BYTES", 1000)
    start = b"text\na\n" if name == "in.csv" else b'{"text": "a"}\n\n'
    (tmp_path / name).write_bytes(start + b'"' + b"x\n" * (name == "in.csv") + b"x" * 2000)
    with pytest.raises(DataError, match=r"line 3 of .* has no end"):
        run(tmp_path / name, tmp_path / "out.csv")


@pytest.mark.parametrize("column", ["error", "rank1_code"])
def test_a_column_of_the_answers_is_not_replaced(tmp_path: Path, column: str) -> None:
    given = write(tmp_path / "in.csv", [{"text": "a", column: "mine"}])
    with pytest.raises(ConfigError, match=f"has a column '{column}' already"):
        run(given, tmp_path / "out.csv")


def test_files_are_checked_before_the_work(tmp_path: Path) -> None:
    given = write(tmp_path / "in.csv", ROWS)
    (tmp_path / "link.csv").symlink_to(given)
    for target in (given, tmp_path / "x" / ".." / "in.csv", tmp_path / "link.csv"):
        with pytest.raises(ConfigError, match="is the input too"):
            check_files(RowFiles(str(given), str(target)))
    for name in ("out.xlsx", "out", "csv"):
        with pytest.raises(ConfigError, match="no ending") as error:
            check_files(RowFiles(str(given), name))
        assert ".parquet" in error.value.hint
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        check_files(RowFiles(str(tmp_path / "none.csv"), str(tmp_path / "out.csv")))
    check_files(RowFiles(str(given), "memory://rows/OUT.JSONL?version=1"))
