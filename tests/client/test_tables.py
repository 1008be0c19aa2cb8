"""The reader of tables: what it accepts, and that it refuses the rest with line and column and without a value."""

from __future__ import annotations

import csv
import io
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client.tables.column_guard import reads_like, repeats
from ledger.client.tables.customers import open_customers
from ledger.client.tables.output import OutputTable, encode_rows
from ledger.client.tables.reader import (
    DELIMITERS,
    MAX_CELL_CHARS,
    MAX_COLUMNS,
    MAX_ROW_CHARS,
    TableFile,
    TableFormat,
    normal_name,
    opened,
)
from ledger.errors import ConfigurationError, InvalidRequest, InvalidTable
from tests.counts import trials

PHONE = "+86 138 0013 8000"
SECRET = "13800138000"


def read(data: bytes, **form: object) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    """(headers, [(line, cells)]) of a table."""
    table = TableFile(io.BytesIO(data), TableFormat(**form))  # type: ignore[arg-type]
    table.check_encoding()
    return table.names, [(record.line, record.cells) for record in table.records()]


def refused(data: bytes, **form: object) -> InvalidTable:
    with pytest.raises(InvalidTable) as caught:
        read(data, **form)
    error = caught.value
    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None, "an error of a codec would carry the input along"
    return error


# --- round trips ------------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=trials(48, 80), deadline=None)
@given(st.data())
def test_what_is_written_by_the_rules_is_read_back(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))
    delimiter = data.draw(st.sampled_from([*DELIMITERS.values()]))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"]))
    always = data.draw(st.booleans())
    out = io.StringIO(newline="")
    csv.writer(
        out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    ).writerows([[f"h{n}" for n in range(width)]])
    for row in rows:
        special = {*'\r\n"', delimiter}
        cells = ['"' + cell.replace('"', '""') + '"' if always or set(cell) & special else cell for cell in row]
        out.write(delimiter.join(cells) + end)
    names, read_rows = read(out.getvalue().encode(encoding), encoding=encoding, delimiter=delimiter)
    assert names == tuple([f"h{n}" for n in range(width)])
    assert [cells for _, cells in read_rows] == [row for row in rows if row != [""] or always]


@settings(max_examples=trials(48, 80), deadline=None)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_every_strict_reader_reads_the_output_back(rows: list[list[str]], end: str) -> None:
    data = encode_rows(rows, end)
    assert list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True)) == rows
    header = encode_rows([["a", "b"]], end)
    pairs = [row for row in rows if len(row) == 2]
    assert [cells for _, cells in read(header + encode_rows(pairs, end))[1]] == pairs


@settings(max_examples=trials(36, 60), deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["utf-8", "utf-16-le", "gb18030", "big5", "shift-jis", "latin-1"]))
def test_any_bytes_are_read_or_refused_in_words(data: bytes, encoding: str) -> None:
    try:
        read(b"a,b\n" + data, encoding=encoding)
        chained = None
    except InvalidTable as error:
        chained = error.__context__
    assert chained is None


@settings(max_examples=trials(24, 40), deadline=None)
@given(st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=5), st.integers(0, 400))
def test_a_table_that_was_cut_anywhere_keeps_its_whole_rows(rows: list[list[str]], cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.csv"
        columns = ("id", "kind", "epoch", "tag", "error")
        whole = encode_rows([columns, *rows])
        path.write_bytes(whole[:cut])
        with OutputTable(path, columns) as table:
            kept = list(table.rows())
            assert kept == rows[: len(kept)]
            table.append(rows[len(kept) :])
        assert path.read_bytes() == whole or (not kept and path.read_bytes() == whole)


# --- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_mark_and_any_line_end(mark: bytes, end: bytes) -> None:
    names, rows = read(mark + end.join([b"phone,name", b"1,Ann", b'2,"Bo ""B"" \r\n\rX"', b"", b"3,"]) + end)
    assert names == ("phone", "name")
    assert [cells for _, cells in rows] == [["1", "Ann"], ["2", 'Bo "B" \r\n\rX'], ["3", ""]]


def test_the_delimiter_is_found_in_the_header() -> None:
    for delimiter in DELIMITERS.values():
        assert read(f"a{delimiter}b\n1{delimiter}2,;\n".replace(",;", "x").encode())[0] == ("a", "b")
    assert read(b'"a;x",b\n1,2\n')[0] == ("a;x", "b")
    assert read(b"a\n1\n")[1] == [(2, ["1"])]
    assert "--delimiter" in str(refused(b"a;b,c\n1;2,3\n"))
    assert read(b"a;b,c\n1;2,3\n", delimiter="semicolon")[0] == ("a", "b,c")
    assert "comma, semicolon or tab" in str(refused(b"a\n", delimiter="x"))


@pytest.mark.parametrize("encoding", ["gbk", "GB18030", "gb2312", "big5", "UTF_16", "utf-16-le", "shift-jis"])
def test_encodings(encoding: str) -> None:
    text = (
        "客戶,電話\n王,1\n"
        if encoding == "big5"
        else "氏名,電話\n山田,1\n"
        if encoding == "shift-jis"
        else "客户,手机号\n王,1\n"
    )
    python = {"UTF_16": "utf-16"}.get(encoding, encoding)
    names, rows = read(text.encode(python), encoding=encoding)
    assert list(names) == text.splitlines()[0].split(",")
    assert rows == [(2, text.splitlines()[1].split(","))]


def test_headers_have_a_normal_form() -> None:
    for header in ("phone", "Phone", " PHONE ", "ｐｈｏｎｅ", "\ufeffphone", "pho\u200bne"):
        assert normal_name(header) == "phone"
    for header in ("cn_id", "CN ID", "cn-id", "Cn - Id"):
        assert normal_name(header) == "cn_id"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        (f'phone,name\n{SECRET},"Ann\n{SECRET},Bo\n', 2, 2),  # a stray quote that swallows the rest
        (f'phone,name\n{SECRET},A"nn\n', 2, 2),
        (f'phone,name\n{SECRET},"Ann"x\n', 2, 2),
        (f'phone,name\n{SECRET}, "Ann"\n', 2, 2),
        (f'phone,name\nx,"a\nb"\n{SECRET},A"\n', 4, 2),
        (f"phone,name\n{SECRET}\n", 2, 2),
        (f"phone,name\n1,2\n{SECRET},x,y\n", 3, 3),
        (f"phone,name\n{SECRET},a\0b\n", 2, 2),
        (f'phone,name\n{SECRET},"a\0b"\n', 2, 2),
        (f"phone,name\n{SECRET},a\rb\n", 2, 2),
        (f'phone,name\n{SECRET},a\r"b"\n', 2, 2),
        (f"phone,name\r{SECRET},a\nb\r", 2, 2),
        (f"phone,phone\n{SECRET},2\n", 1, 2),
        (f"phone,Phone\n{SECRET},2\n", 1, 2),
        (f"phone,ｐｈｏｎｅ\n{SECRET},2\n", 1, 2),
        (f"phone,\n{SECRET},2\n", 1, 2),
        (f'phone,"account\n{SECRET},"\n', 1, 2),  # a stray quote in the header
        (f"phone, \u200b\n{SECRET},2\n", 1, 2),
        (f"phone,note\n{SECRET},{'x' * (MAX_CELL_CHARS + 1)}\n", 2, 2),
        (f'phone,note\n{SECRET},"{"x" * (MAX_CELL_CHARS + 1)}"\n', 2, 2),
        (f'phone,note\n{SECRET},"{"x" * 3 * MAX_CELL_CHARS}', 2, 2),
        (",".join(f"c{n}" for n in range(MAX_COLUMNS + 1)), 1, None),
        ("", 1, None),
        ("\n\n", 1, None),
        ("x" * (MAX_ROW_CHARS + 2), 1, None),
        (f"a,b\n{'x' * (MAX_ROW_CHARS + 2)}", 2, None),
        (f"a,b\n{','.join(['x' * 60_000] * 20)}", 2, None),
    ],
)  # fmt: skip
def test_malformed_tables_are_refused_by_line_and_column(text: str, line: int, column: int | None) -> None:
    error = refused(text.encode())
    assert error.details["line"] == line
    assert error.details.get("column") == column
    assert str(line) in str(error)


def test_rows_of_a_wrong_width_are_listed() -> None:
    error = refused(b"a,b\n1,2\n1\n1,2\n1,2,3\n\n9,9,9\n" + b"1\n" * 20)
    assert error.details["lines"] == [3, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    assert error.details["rows"] == 23
    table = TableFile(io.BytesIO(b"a,b\n1,2\n1\n1,2\n1\n"), TableFormat())
    with pytest.raises(InvalidTable):
        list(table.records(2))
    assert len(list(TableFile(io.BytesIO(b"a,b\n1,2\n1\n1,2\n1\n"), TableFormat()).records(1))) == 1


@pytest.mark.parametrize("before", [0, 10, (1 << 16) - 20, (1 << 16) - 19, 1 << 16])
def test_a_wrong_encoding_is_named_with_its_place(before: int) -> None:
    good = b"phone,name\n" + b"1,Ann\n" * (before // 6)
    error = refused(good + f"{SECRET},".encode() + "王小明".encode("gbk") + b"\n")
    assert error.details == {"line": 2 + before // 6, "character": len(SECRET) + 2}
    assert "gb18030" in str(error)
    error = refused(good + f"{SECRET},".encode() + b"\xff\xff\n", encoding="gb18030")
    assert error.details["character"] == len(SECRET) + 2
    assert refused("a,b\n1,王小".encode()[:-1]).details == {"line": 2, "character": 4}


def test_a_file_in_another_encoding_than_was_said() -> None:
    text = "phone,name\n1,王小明张三李四周五\n"
    assert "leave --encoding out" in str(refused(text.encode(), encoding="gb18030"))
    assert "leave --encoding out" in str(refused(text.encode(), encoding="latin-1"))
    assert "leave --encoding out" in str(refused(b"\xef\xbb\xbf" + text.encode(), encoding="gbk"))
    assert "utf-16" in str(refused(text.encode("utf-16")))
    assert "UTF-16" in str(refused("phone,name\n".encode("utf-16-le")))
    assert "utf-16-le" in str(refused(text.encode("utf-16-le"), encoding="utf-16"))
    for unknown in ("utf-7", "idna", "rot13", "unicode_escape", "undefined", "x", ""):
        assert "Unknown encoding" in str(refused(b"a\n", encoding=unknown))


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_pipe_is_kept_where_nobody_else_can_read_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = b"phone,note\n" + b"1,%s\n" % (b"x" * 1000) * 9000  # more than stays in memory
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with opened(pipe) as file:
        rolled = os.fstat(file.fileno())
        assert stat.S_IMODE(rolled.st_mode) == 0o600
        assert rolled.st_nlink == 0, "no name leads to it, and it is gone when it is closed"
        table = TableFile(file, TableFormat())
        assert len(list(table.records())) == len(list(table.records())) == 9000
    writer.join()


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(ConfigurationError), opened(path):
            pass


# --- customers --------------------------------------------------------------------------------------------------------


def customers(text: str, **options: object) -> tuple[list[str], list[str], int]:
    """(kinds, copied columns, rows) of a table."""
    form = TableFormat(columns=options.pop("columns", {}))  # type: ignore[arg-type]
    with open_customers(io.BytesIO(text.encode()), form, **options) as table:  # type: ignore[arg-type]
        return [kind for _, kind in table.kinds], [table.table.names[place] for place in table.copied], table.rows


def test_columns_are_found_and_mapped() -> None:
    assert customers(f"id,Phone,e\n1,{PHONE},x\n") == (["phone"], ["id"], 1)
    assert customers(f"id,手机号,姓名\n1,{PHONE},x\n", columns={"phone": "手机号"}) == (["phone"], ["id"], 1)
    assert customers(f"a,phone,b,c\n1,{PHONE},2,3\n", id_column="c", keep=["A"])[1] == ["a", "c"]
    assert customers(f"phone\n{PHONE}\n") == (["phone"], [], 1)
    wrong: list[tuple[str, dict[str, str]]] = [
        ("id,phone", {"phone": "手机号"}),
        ("id,phone,手机号", {"phone": "手机号"}),
        ("id,phone", {"fax": "id"}),
        ("id,phone", {"phone": "id", "email": "id"}),
    ]
    for header, columns in wrong:
        with pytest.raises(InvalidTable):
            customers(header + "\n", columns=columns)


def test_a_file_without_a_header_is_not_quoted() -> None:
    with pytest.raises(InvalidTable) as caught:
        customers(f"{SECRET},li@example.com\n{SECRET},x\n")
    assert SECRET not in str(caught.value)
    assert "li@" not in str(caught.value)
    with pytest.raises(InvalidTable, match="--column phone=手机号 --column email=E-Mail"):
        customers(f"手机号,E-Mail\n{SECRET},x\n")


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("account,phone", [f"{SECRET},{PHONE}"]),
        ("account,phone", [f"u-138-0013-8000,{PHONE}"]),
        ("account,phone", [f"１３８００１３８０００,{PHONE}"]),
        ("account,phone", ["07911 123456,+447911123456"]),
        ("account,phone", [f"c1,{PHONE}", f"00138001380,{PHONE}"]),
        ("account,email", ["LI@Example.com,li@example.com"]),
        ("account,cn_id", ["11010519491231002x,11010519491231002X"]),
        ("account,payment", ["2088123412341234,alipay/2088123412341234"]),
        ("account,payment", ["4111-1111-1111-1111,4111 1111 1111 1111"]),
        ("account,device", ["550E8400-E29B-41D4-A716-446655440000,550e8400e29b41d4a716446655440000"]),
        ("account,phone", [f"li@example.com,{PHONE}"]),
        ("account,phone", [f"+44 7911 123456,{PHONE}"]),
        ("account,phone", [f"call 139 0013 8000,{PHONE}", *[f"x,{PHONE}"] * 99]),
        ("account,email", ["13900138000,a@example.com"]),
        ("account,email", ["11010519491231002X,a@example.com"]),
        ("account,email", ["4111111111111111,a@example.com"]),
        ("account,email", ["alipay/2088123412341234,a@example.com"]),
        ("payment,name", ['wallet/one-one,"Ann', "wallet/two-two,Bo", 'wallet/three,"']),
        ("account,email", ["call 1\u200b1010519491231002x,a@example.com"]),
        ("account,email", ["call 139\u00ad00138000,a@example.com"]),
        ("li@example.com,email", ["x,a@example.com"]),
        ("手机号,email", ["x,a@example.com"]),
        ("Mobile,email", ["x,a@example.com"]),
    ],
)
def test_a_column_of_identifiers_is_never_copied(header: str, rows: list[str]) -> None:
    with pytest.raises(InvalidTable) as caught:
        customers(header + "\n" + "\n".join(rows) + "\n")
    for cell in rows[0].split(","):
        assert len(cell) < 6 or cell not in str(caught.value)


def test_ids_that_are_none_are_copied() -> None:
    plain = [
        "c-1",
        "550e8400-e29b-41d4-a716-446655440000",
        "1700000000000000001",
        "A13900138000",
        "20260131-0001",
        "李雷",
    ]
    assert customers("id,phone\n" + "".join([f"{value},{PHONE}\n" for value in plain]))[2] == len(plain)
    numbers = [f"{10_000_000_000 + 97 * n}" for n in range(200)]
    assert not any(reads_like(number) for number in numbers)
    looks = ["13900138000", "c2"]
    text = "id,phone\n" + "".join([f"{look},{PHONE}\n" for look in looks])
    with pytest.raises(InvalidTable, match="--not-identifiers"):
        customers(text)
    assert customers(text, not_identifiers=["id"])[1] == ["id"]
    with pytest.raises(InvalidTable):  # what repeats an identifier of its row stays out, whatever is said
        customers(f"id,phone\n{SECRET},{PHONE}\n", not_identifiers=["id"])


def test_cells_of_several_lines_are_copied() -> None:
    assert customers(f'note,phone,x\n"a\nb, c\r\nd",{PHONE},\n')[2] == 1
    text = f'note,phone,x\n"a\nb,c,d",{PHONE},\n'
    with pytest.raises(InvalidTable, match="quote"):
        customers(text)
    assert customers(text, not_identifiers=["note"])[2] == 1
    assert "opened in line 2" in str(refused(b'a,b\n1,"x\n2,y\n3,"z"\n'))


def test_a_birth_date_is_no_citizen_number() -> None:
    assert not repeats("19491231", "cn_id", "11010519491231002X")
    assert not repeats("1234", "payment", "4111 1111 1111 1234")
    assert not repeats("c1", "phone", PHONE)
    assert not repeats("", "phone", PHONE)
    assert not repeats("x", "email", "")


def test_a_column_that_the_tags_would_take_the_name_of() -> None:
    text = f"id,phone,Phone_Tag\n1,{PHONE},old\n"
    assert customers(text)[2] == 1
    with pytest.raises(InvalidTable) as caught:
        customers(text, tag_columns=True)
    assert caught.value.details == {"line": 1, "column": 3}


def test_an_output_of_another_form_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for data in (b'a,b\n1,"x\n2,"y"\n', b"a,b\n1,\xff\n", b"a,b\n1,a\rb\n", b"a,b\n\n"):
        path.write_bytes(data)
        with OutputTable(path, ("a", "b")) as table, pytest.raises(InvalidRequest) as caught:
            list(table.rows())
        assert caught.value.__context__ is None
        assert path.read_bytes() == data
