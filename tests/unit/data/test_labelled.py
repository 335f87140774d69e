"""Labelled texts from files of every format, and what is refused, with the rows named."""

import gzip
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from naics_job.data.labelled import LabelledTexts, read_labelled, refuse_overlap
from naics_job.errors import DataError
from naics_job.taxonomy.tree import Taxonomy

CODES = ("11", "111", "1111", "11111", "111110", "11112", "111120", "31-33", "321")
TAXONOMY = Taxonomy.from_codes(CODES, [f"Title {code}" for code in CODES])
KEY = "data.labelled_texts"
Read = Callable[..., LabelledTexts]  # content, name of the file


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(content: bytes | str, name: str = "texts.csv") -> LabelledTexts:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_labelled(str(path), TAXONOMY, KEY)

    return write_and_read


def refusal(read: Read, content: bytes | str, name: str = "texts.csv") -> str:
    with pytest.raises(DataError) as caught:
        read(content, name)
    message = str(caught.value.args[0])
    assert KEY in message
    assert name in message
    assert caught.value.hint
    return message


def codes_of(found: LabelledTexts) -> list[str]:
    return [TAXONOMY.codes[position] for position in found.positions]


def test_rows_of_a_csv_with_quotes_and_a_byte_order_mark(read: Read, tmp_path: Path) -> None:
    content = '\ufefftext,code,other\n"We grow, and\nsell ""blue"" plants", 111110 ,x\nNA,31,\n'
    found = read(content)
    assert found.texts == ['We grow, and\nsell "blue" plants', "NA"]
    assert codes_of(found) == ["111110", "31-33"]
    assert found.weights.tolist() == [1.0, 1.0]
    assert found.rows.tolist() == [1, 2]
    assert len(found) == 2
    assert found.url == str(tmp_path / "texts.csv")
    assert found.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert found.positions.dtype == np.int64
    assert found.weights.dtype == np.float64


@pytest.mark.parametrize("code", CODES)
def test_a_code_of_any_level(code: str, read: Read) -> None:
    assert codes_of(read(f"text,code\na,{code}\n")) == [code]


@pytest.mark.parametrize("part", ["31", "32", "33", "31-33"])
def test_a_part_of_a_merged_sector_means_the_whole(part: str, read: Read) -> None:
    assert codes_of(read(f"text,code\na,{part}\n")) == ["31-33"]


def test_tabs_and_weights(read: Read) -> None:
    found = read("weight\tcode\ttext\r\n0.5\t321\ta, b\r\n 2 \t11\tc\r\n", "TEXTS.TSV")
    assert found.texts == ["a, b", "c"]
    assert found.weights.tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv.gz", "text,code\na,11"), ("t.tsv.gz", "text\tcode\na\t11")]
)
def test_gzip(name: str, content: str, read: Read) -> None:
    packed = gzip.compress(content.encode())
    found = read(packed, name)
    assert (found.texts, codes_of(found)) == (["a"], ["11"])
    assert found.sha256 == hashlib.sha256(packed).hexdigest()
    assert "not a whole gzip file" in refusal(read, packed[:-9], name)
    assert "not a whole gzip file" in refusal(read, content, name)


def parquet(**columns: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.mark.parametrize(
    "code",
    [
        pa.array([111110, 32], pa.int32()),
        pa.array(["111110", " 32"]),
        pa.array(["111110", "32"], pa.large_string()),
        pa.array(["111110", "32"]).dictionary_encode(),
    ],
    ids=lambda code: str(code.type),
)
def test_parquet_with_codes_as_text_or_numbers(code: pa.Array, read: Read) -> None:
    weight = pa.array([0.1, 3.0])
    found = read(parquet(text=pa.array(["a", "b"]), code=code, weight=weight), "texts.parquet")
    assert found.texts == ["a", "b"]
    assert codes_of(found) == ["111110", "31-33"]
    assert found.weights.tolist() == [0.1, 3.0]


def test_parquet_of_wrong_types(read: Read) -> None:
    text, code = pa.array(["a"]), pa.array([11])
    message = refusal(read, parquet(text=code, code=code), "t.parquet")
    assert "'text'" in message
    assert "int64, not text" in message
    message = refusal(read, parquet(text=text, code=pa.array([11.0])), "t.parquet")
    assert "double, not text or whole numbers" in message
    wrong = parquet(text=text, code=code, weight=pa.array([True]))
    assert "bool, not numbers" in refusal(read, wrong, "t.parquet")


def test_parquet_without_values(read: Read) -> None:
    text, code = pa.array(["a", None]), pa.array([11, None])
    whole = pa.array([11, 11])
    assert "without a text: 2 (1 in all)" in refusal(
        read, parquet(text=text, code=whole), "t.parquet"
    )
    full = pa.array(["a", "b"])
    assert "without a code: 2 (1 in all)" in refusal(
        read, parquet(text=full, code=code), "t.parquet"
    )
    data = parquet(text=full, code=whole, weight=pa.array([1.0, None]))
    assert "no number above 0: 2 '' (1 in all)" in refusal(read, data, "t.parquet")


def test_any_file_system() -> None:
    with fsspec.open("memory://labelled/texts.csv", "wb") as file:
        file.write(b"text,code\na,11\n")
    assert read_labelled("memory://labelled/texts.csv", TAXONOMY, KEY).texts == ["a"]


@pytest.mark.parametrize("name", ["texts.xlsx", "texts", "texts.parquet.gz", "csv"])
def test_other_endings_name_the_formats(name: str, read: Read) -> None:
    assert ".csv, .tsv and .parquet" in refusal(read, "text,code\na,11\n", name)


def test_a_missing_column_lists_those_there_are(read: Read) -> None:
    assert "no column 'code'; it has: 'text', ' code'" in refusal(read, "text, code\na,11\n")
    assert "no column 'text'; it has: 'Text', 'code'" in refusal(read, "Text,code\na,11\n")
    assert "no column 'code'; it has: 'text'" in refusal(
        read, parquet(text=pa.array(["a"])), "t.parquet"
    )
    assert "the column 'text' twice" in refusal(read, "text,code,text\na,11,b\n")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file(content: str, read: Read) -> None:
    assert "is empty" in refusal(read, content)


def test_no_rows(read: Read) -> None:
    assert "no rows" in refusal(read, "text,code\n")


def test_rows_are_counted_from_the_first_below_the_header(read: Read) -> None:
    # the text of row 1 has two lines; the empty line is no row
    content = 'text,code\n"a\nb",11\n\n" ",11\nc,\n,11\nd, \n'
    assert "without a text: 2, 4 (2 in all)" in refusal(read, content)
    assert "without a code: 3, 5 (2 in all)" in refusal(
        read, content.replace('" "', "e").replace("\n,", "\nf,")
    )


def test_unknown_codes_are_shown_with_their_rows(read: Read) -> None:
    rows = ["a,11", *(f"b{number},99999{number}" for number in range(7)), "c,44"]
    message = refusal(read, "text,code\n" + "\n".join(rows))
    shown = "2 '999990', 3 '999991', 4 '999992', 5 '999993', 6 '999994', ... (8 in all)"
    assert f"rows with an unknown code: {shown}" in message
    with pytest.raises(DataError) as caught:
        read("text,code\na,452319\n")
    assert "retired" in caught.value.hint
    assert "edition" in caught.value.hint
    assert "9 codes" in caught.value.hint


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "x", ""])
def test_a_weight_must_be_a_number_above_0(weight: str, read: Read) -> None:
    message = refusal(read, f"text,code,weight\na,11,1\nb,11,{weight}\n")
    assert f"2 '{weight}' (1 in all)" in message


def test_rows_with_other_numbers_of_fields(read: Read) -> None:
    content = "text,code\na,11\n\nred, blue plants,11\nc\n"
    message = refusal(read, content)
    assert "another number of fields than its header: 2, 3 (2 in all)" in message


@pytest.mark.parametrize(
    "content",
    ["text,code\na,11\ncafé,11\n".encode("latin-1"), "text,code\na,11\nb,11\n".encode("utf-16")],
)
def test_other_encodings_are_refused(content: bytes, read: Read) -> None:
    assert "not UTF-8 text" in refusal(read, content)
    with pytest.raises(DataError, match="convert it"):
        read(content)


def test_the_line_of_a_wrong_byte(read: Read) -> None:
    message = refusal(read, "text,code\na,11\ncafé,11\n".encode("latin-1"))
    assert "line 3 holds the byte 0xe9" in message
    assert "line 1 holds the byte 0x00" in refusal(read, "text,code\n".encode("utf-16-le"))


def test_a_damaged_parquet_file(read: Read) -> None:
    assert "not a readable .parquet file" in refusal(read, b"PAR1 no table", "t.parquet")


def test_a_text_longer_than_a_block_of_the_reader(read: Read) -> None:
    long = "word " * 500_000  # 2.5 MB, more than pyarrow takes at once by itself
    found = read(f'text,code\na,11\n"{long}",31\n')
    assert found.texts == ["a", long]


def test_doubles_are_dropped_and_contradictions_kept(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    content = (
        "text,code,weight\nBlue plants,11,2\nother,11,1\nblue  PLANTS,11,3\nBlue plants,321,4\n"
    )
    with caplog.at_level(logging.WARNING):
        found = read(content)
    assert found.texts == ["Blue plants", "other", "Blue plants"]
    assert codes_of(found) == ["11", "11", "321"]
    assert found.weights.tolist() == [2.0, 1.0, 4.0]
    assert found.rows.tolist() == [1, 2, 4]
    [record] = caplog.records
    assert record.getMessage() == "labelled.doubles"
    assert vars(record)["fields"]["dropped"] == "3 (1 in all)"
    assert vars(record)["fields"]["kept_with_another_code"] == "4 (1 in all)"


def test_no_warning_without_doubles(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    read("text,code\na,11\nb,11\n")
    assert caplog.records == []


def test_texts_in_both_files_are_refused(read: Read) -> None:
    train = read("text,code\nx,11\nBlue plants,11\nred plants,11\n", "train.csv")
    other = read("text,code\nblue,11\nplants,11\n", "other.csv")
    refuse_overlap(train, other)
    shared = read('text,code\na,11\na,11\n"BLUE\n plants",31\nx,31\n', "dev.csv")
    with pytest.raises(DataError) as caught:
        refuse_overlap(train, shared)
    message = str(caught.value.args[0])
    assert "row 3 (row 2 there), 4 (row 1 there) (2 in all)" in message
    assert "train.csv" in message
    assert "dev.csv" in message
