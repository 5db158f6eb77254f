"""CSV files: columns of numbers and categories, parts, pixels, and what is wrong by row and column."""

import csv
import gzip
import io
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.intake.answers import Description, Options, Refusal, quote
from app.intake.limits import CELL_CHARACTERS, LINE_BYTES
from app.intake.run import convert
from tests.intake.files import load_four, read_in_process

Row = list[Any]
SPECIES = ("Adelie", "Chinstrap", "Gentoo")


def write_csv(rows: list[Row], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode()


def describe(folder: Path, content: bytes, **options: Any) -> Description:
    (folder / "file").write_bytes(content)
    described = read_in_process(folder / "file", folder / "out", **options)
    assert isinstance(described, Description), described
    return described


def refuse(folder: Path, content: bytes, **options: Any) -> Refusal:
    (folder / "file").write_bytes(content)
    refusal = read_in_process(folder / "file", folder / "refused", **options)
    assert isinstance(refusal, Refusal), refusal
    assert not list((folder / "refused").iterdir())
    return refusal


def make_penguins(rows: int = 90) -> list[Row]:
    """A table as of penguins: an island's name, two lengths, a year, and the species last."""
    draw = random.Random(0)
    table: list[Row] = [["island", "bill_mm", "mass_g", "year", "species"]]
    for index in range(rows):
        kind = index % 3
        island = draw.choice(("Biscoe", "Dream", "Torgersen"))
        table.append([island, f"{35 + 5 * kind + draw.random():.1f}", 3500 + 10 * index, 2007 + kind, SPECIES[kind]])
    return table


def test_numbers_stay_and_categories_become_columns(tmp_path: Path) -> None:
    table = make_penguins()
    described = describe(tmp_path, write_csv(table))
    assert (described.format, described.kind, described.shape, described.scale) == ("csv", "table", (6,), 1.0)
    assert described.class_names == list(SPECIES)
    assert (described.train_class_counts, described.test_class_counts) == ([24] * 3, [6] * 3)
    x_train, y_train, x_test, y_test = load_four(tmp_path / "out")
    islands = ("Biscoe", "Dream", "Torgersen")
    sent = {
        (*(float(row[0] == island) for island in islands), *np.array(row[1:4], np.float32), SPECIES.index(row[4]))
        for row in table[1:]
    }
    stored = np.column_stack([np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])])
    assert {tuple(row) for row in stored.tolist()} == sent
    assert described.columns is not None
    assert [column["name"] for column in described.columns] == ["island", "bill_mm", "mass_g", "year"]
    assert described.columns[0]["categories"] == list(islands)
    assert sum(described.columns[0]["counts"]) == described.train_samples
    assert described.columns[3] == {"name": "year", "type": "number", "min": 2007, "max": 2009, "mean": 2008} | {
        "std": described.columns[3]["std"]
    }
    assert described.head == [{name: str(cell) for name, cell in zip(table[0], row, strict=True)} for row in table[1:6]]


def test_rows_are_shuffled_by_random_state(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):
        hashes.append(describe(tmp_path, write_csv(make_penguins()), random_state=seed).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_tabs_gzip_and_a_byte_order_mark_change_nothing(tmp_path: Path, delimiter: str) -> None:
    plain = describe(tmp_path, write_csv(make_penguins()))
    other = b"\xef\xbb\xbf" + write_csv(make_penguins(), delimiter).replace(b"\r\n", b"\n") + b"\n\n"
    assert describe(tmp_path, gzip.compress(other)) == plain


def test_quoted_cells_may_hold_commas_quotes_and_ends_of_lines(tmp_path: Path) -> None:
    texts = ['a, "b"', "two\nlines", "x"]
    rows: list[Row] = [["text", "label"], *([text, index % 2] for index, text in enumerate(texts * 6))]
    described = describe(tmp_path, write_csv(rows))
    assert described.columns is not None
    assert described.columns[0]["categories"] == ['a, "b"', "two\\nlines", "x"]


def test_rows_are_counted_by_lines_as_an_editor_does(tmp_path: Path) -> None:
    content = b'n,t,label\n1,"a\nb",0\n\n2,c,1\n3,d\n4,e,0\n'
    refusal = refuse(tmp_path, content)
    assert refusal.errors == [
        {"pointer": "", "row": 6, "column": None, "message": "2 cells where the header has 3"},
    ]


def test_missing_cells_are_one_message_a_column_at_the_first(tmp_path: Path) -> None:
    table = make_penguins()
    for row, missing in ((3, "NA"), (10, ""), (60, "?")):
        table[row][1] = missing
    table[4][0] = "null"
    refusal = refuse(tmp_path, write_csv(table))
    assert [(error["row"], error["column"]) for error in refusal.errors] == [(4, "bill_mm"), (5, "island")]
    assert refusal.errors[0]["message"].startswith("3 of 90 cells are missing, the first one here: ")
    assert refusal.errors[0]["message"].endswith("exclude=bill_mm")
    assert refusal.detail == (
        "flowers was read as CSV of 5 columns with the target 'species'. 4 errors were found; nothing was stored."
    )
    assert describe(tmp_path, write_csv(table), exclude=("bill_mm", "island")).shape == (2,)


@pytest.mark.parametrize("text", ["1_000", "１２", "inf", "1e39", "0x10", "1,5", "--1", "\x7f", "=1+1", "n/a"])  # noqa: RUF001
def test_what_is_no_decimal_number_is_named(tmp_path: Path, text: str) -> None:
    table = make_penguins()
    table[16][2] = text
    refusal = refuse(tmp_path, write_csv(table))
    message = f"'{quote(text)}' is no number, and 89 of 90 cells are: mend it, or send exclude=mass_g"
    assert refusal.errors == [{"pointer": "", "row": 17, "column": "mass_g", "message": message}]


def test_formulas_stay_text(tmp_path: Path) -> None:
    rows: list[Row] = [["cell", "label"], *([("=1+1", "@SUM(A1)")[index % 2], index % 2] for index in range(20))]
    described = describe(tmp_path, write_csv(rows))
    assert described.columns is not None
    assert described.columns[0]["categories"] == ["=1+1", "@SUM(A1)"]


TABLE = make_penguins(40)


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(1, 40),
    column=st.integers(1, 3),
    cell=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=60).filter(
        lambda text: not text.strip() or not all(char in "0123456789+-.eE " for char in text)
    ),
)
def test_a_broken_cell_is_named_by_row_and_column(row: int, column: int, cell: str) -> None:
    table = [list(cells) for cells in TABLE]
    table[row][column] = cell
    with tempfile.TemporaryDirectory() as folder:
        refusal = refuse(Path(folder), write_csv(table))
    (error,) = refusal.errors
    assert (error["row"], error["column"]) == (row + 1, TABLE[0][column])
    assert all(char.isprintable() for char in error["message"])
    assert len(error["message"]) < 600


@settings(max_examples=20, deadline=None)
@given(
    row=st.integers(1, 40),
    cell=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=80).filter(
        lambda text: text.strip() not in SPECIES
    ),
)
def test_a_broken_label_is_named_by_row_and_column(row: int, cell: str) -> None:
    table = [list(cells) for cells in TABLE]
    table[row][4] = cell
    with tempfile.TemporaryDirectory() as folder:
        (error,) = refuse(Path(folder), write_csv(table)).errors
    assert (error["row"], error["column"]) == (row + 1, "species")
    assert all(char.isprintable() for char in error["message"])


@pytest.mark.parametrize("label", ["7.5", "7x", "77"])
def test_a_broken_label_among_whole_numbers_is_named(tmp_path: Path, label: str) -> None:
    table = make_digits(30)
    table[9][0] = label
    (error,) = refuse(tmp_path, write_csv(table), target="label", image_shape=(4, 6, 1)).errors
    assert (error["row"], error["column"]) == (10, "label")
    assert f"'{label}'" in error["message"]


def test_at_most_ten_errors_are_answered_and_all_are_counted(tmp_path: Path) -> None:
    table = make_penguins()
    for row in range(20, 50):
        table[row][1] = table[row][2] = "x"
    refusal = refuse(tmp_path, write_csv(table))
    assert [(error["row"], error["column"]) for error in refusal.errors] == [
        (row, column) for row in range(21, 26) for column in ("bill_mm", "mass_g")
    ]
    assert "60 errors were found" in refusal.detail


def test_many_different_texts_are_refused_by_name(tmp_path: Path) -> None:
    rows: list[Row] = [["name", "n", "label"], *([f"person {index}", index, index % 2] for index in range(120))]
    (error,) = refuse(tmp_path, write_csv(rows)).errors
    assert (error["column"], error["pointer"]) == ("name", "/exclude")
    assert error["message"].endswith("send exclude=name")
    assert describe(tmp_path, write_csv(rows), exclude=("name",)).shape == (1,)


def test_targets_and_excluded_columns_are_those_of_the_header(tmp_path: Path) -> None:
    content = write_csv(make_penguins())
    refusal = refuse(tmp_path, content, target="Species", exclude=("wing",))
    there = "there are island, bill_mm, mass_g, year, species"
    assert [(error["pointer"], error["message"]) for error in refusal.errors] == [
        ("/target", f"no column 'Species'; {there}"),
        ("/exclude", f"no column 'wing'; {there}"),
    ]
    assert refuse(tmp_path, content, target="year", exclude=("year",)).errors[0]["pointer"] == "/exclude"
    assert describe(tmp_path, content, target="year").class_names == ["2007", "2008", "2009"]


def test_whole_number_labels_are_ordered_by_size_however_they_are_written(tmp_path: Path) -> None:
    rows: list[Row] = [["n", "label"], *([index, ("10", "9.0", "9", "-1")[index % 4]] for index in range(40))]
    described = describe(tmp_path, write_csv(rows))
    assert described.class_names == ["-1", "9", "10"]
    assert described.train_class_counts == [8, 16, 8]


def test_many_numbers_that_occur_once_are_taken_for_amounts(tmp_path: Path) -> None:
    rows: list[Row] = [["x", "price"], *([number, 100 + number] for number in range(30))]
    [error] = refuse(tmp_path, write_csv(rows)).errors
    assert error["message"] == "30 of 30 classes have one row: send task=regression if they are amounts"


def test_amounts_are_no_classes_and_classes_no_amounts(tmp_path: Path) -> None:
    rows: list[Row] = [["n", "price"], *([index, 0.5 + index % 3] for index in range(40))]
    assert "task=regression" in refuse(tmp_path, write_csv(rows)).errors[0]["message"]
    described = describe(tmp_path, write_csv(rows), task="regression")
    assert (described.classes, described.class_names, described.train_class_counts) == (0, None, None)
    x_train, y_train, _, _ = load_four(tmp_path / "out")
    assert y_train.dtype == np.float32
    np.testing.assert_array_equal(y_train, 0.5 + x_train[:, 0] % 3)
    rows[6][1] = "dear"
    assert [error["row"] for error in refuse(tmp_path, write_csv(rows), task="regression").errors] == [7]


def test_a_column_called_split_makes_the_parts(tmp_path: Path) -> None:
    rows: list[Row] = [["n", "split", "label"]]
    rows += [[index, ("train", "test")[index % 5 == 0], index % 2] for index in range(50)]
    described = describe(tmp_path, write_csv(rows))
    x_train, _, x_test, _ = load_four(tmp_path / "out")
    assert x_train[:, 0].tolist() == [index for index in range(50) if index % 5]
    assert x_test[:, 0].tolist() == list(range(0, 50, 5))
    assert described.shape == (1,)
    rows[8][1] = "tset"
    (error,) = refuse(tmp_path, write_csv(rows)).errors
    assert (error["row"], error["column"]) == (9, "split")


def make_digits(rows: int) -> list[Row]:
    draw = random.Random(1)
    header = ["label", *(f"pixel{place}" for place in range(24))]
    return [header, *([index % 3, *(draw.randrange(256) for _ in range(24))] for index in range(rows))]


@pytest.mark.parametrize(("shape", "stored"), [((4, 6, 1), (4, 6)), ((4, 2, 3), (4, 2, 3))])
def test_rows_of_pixels_become_images(tmp_path: Path, shape: tuple[int, int, int], stored: tuple[int, ...]) -> None:
    table = make_digits(30)
    described = describe(tmp_path, write_csv(table), target="label", image_shape=shape)
    assert (described.kind, described.shape, described.columns, described.head) == ("image", shape, None, None)
    x_train, _, x_test, _ = load_four(tmp_path / "out")
    assert (x_train.dtype.name, x_train.shape[1:]) == ("uint8", stored)
    both = np.concatenate([x_train, x_test]).reshape(30, -1).tolist()
    assert sorted(both) == sorted(row[1:] for row in table[1:])
    assert (tmp_path / "out" / "preview.png").exists()


@pytest.mark.parametrize("pixel", ["256", "-1", "0.5"])
def test_pixels_are_whole_numbers_from_0_to_255(tmp_path: Path, pixel: str) -> None:
    table = make_digits(30)
    table[3][5] = pixel
    (error,) = refuse(tmp_path, write_csv(table), target="label", image_shape=(4, 6, 1)).errors
    assert (error["row"], error["column"]) == (4, "pixel4")
    assert error["message"].startswith(f"'{pixel}' is no whole number from 0 to 255")


def test_another_number_of_pixels_is_refused(tmp_path: Path) -> None:
    refusal = refuse(tmp_path, write_csv(make_digits(30)), target="label", image_shape=(5, 5, 1))
    assert refusal.errors[0]["pointer"] == "/image_shape"


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"1,2\n3,4\n", 1, "numbers only: add a header"),
        (b",a,label\n0,1,x\n", 1, "column 1 has no name"),
        (b"a,a,label\n0,1,x\n", 1, "more than one column is called 'a'"),
        (b"a\n1\n", 1, "one column only"),
        (b"a,b\n\xe9t\xe9,1\n", 2, "not UTF-8"),
        (b'a,b\n"x"y,1\n', 2, "not CSV"),
        (b"a,b\n" + b"9" * (CELL_CHARACTERS + 1) + b",1\n", 2, "longer than 1,000 characters"),
        (b"a,b\n" + b"1," * LINE_BYTES, 2, "longer than 1,048,576 bytes"),
        (b"a,b\n" + b'"\n",' * LINE_BYTES, 2, "longer than 1,048,576 bytes"),
        (b'a,b\n"x,1\n' + b"y,1\n" * 999, 2, "is a quote missing?"),
    ],
)
def test_texts_that_are_no_tables_are_refused_by_row(tmp_path: Path, content: bytes, row: int, message: str) -> None:
    (error,) = refuse(tmp_path, content).errors
    assert error["row"] == row
    assert message in error["message"]


def test_a_million_columns_are_refused_before_a_row_is_read(tmp_path: Path) -> None:
    header = b",".join(b"%d" % place for place in range(150_000)) + b",x\n"
    refusal = refuse(tmp_path, header + b"1\n")
    assert refusal.status == 413
    assert "150,001 columns" in refusal.errors[0]["message"]


def test_categories_may_not_make_more_than_two_thousand_columns(tmp_path: Path) -> None:
    header = [*(f"c{place}" for place in range(30)), "label"]
    rows: list[Row] = [header, *([*[f"v{index % 90}"] * 30, index % 2] for index in range(180))]
    assert "2,700 columns" in refuse(tmp_path, write_csv(rows)).errors[0]["message"]


def test_a_gzip_bomb_is_counted_while_it_inflates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.intake.records.DECODED_BYTES", 100_000)
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 100_000, 1)
    refusal = refuse(tmp_path, bomb)
    assert refusal.status == 413
    assert "100,000 bytes" in refusal.errors[0]["message"]


def test_a_gzip_bomb_without_an_end_of_line_is_one_line(tmp_path: Path) -> None:
    refusal = refuse(tmp_path, gzip.compress(b"a,b\n" + bytes([49]) * 50_000_000, 1))
    assert refusal.errors[0]["row"] == 2


@pytest.mark.parametrize("cut", [30, -6])
def test_a_gzip_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    zipped = gzip.compress(write_csv(make_penguins()))
    assert "cut off" in refuse(tmp_path, zipped[:cut]).errors[0]["message"]


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\n\n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refuse(tmp_path, content).status == 422


def test_the_child_names_the_same_cell_and_leaves_nothing(tmp_path: Path) -> None:
    table = make_penguins()
    table[16][2] = "n/a"
    (tmp_path / "file").write_bytes(gzip.compress(write_csv(table)))
    (tmp_path / "out").mkdir()
    refusal = convert(tmp_path / "file", tmp_path / "out", Options("flowers"), 60)
    assert refusal == refuse(tmp_path, write_csv(table))
    assert not list((tmp_path / "out").iterdir())
    described = convert(tmp_path / "file", tmp_path / "out", Options("flowers", exclude=("mass_g",)), 60)
    assert described == describe(tmp_path, write_csv(table), exclude=("mass_g",))
