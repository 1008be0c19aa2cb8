"""The names of tiles and the bytes of entry bundles, as C2SP tlog-tiles defines them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidTile
from ledger.tlog import merkle
from ledger.tlog.merkle import TileLevel
from tests.counts import trials


@pytest.mark.parametrize(
    ("level", "index", "width", "name"),
    [
        (0, 0, None, "tile/0/000"),
        (0, 67, 5, "tile/0/067.p/5"),
        (1, 1_234_067, None, "tile/1/x001/x234/067"),
        (63, 1000, 255, "tile/63/x001/000.p/255"),
        ("entries", 999, None, "tile/entries/999"),
        ("entries", 256_000, 1, "tile/entries/x256/000.p/1"),
        (0, 2**55, None, "tile/0/x036/x028/x797/x018/x963/968"),
    ],
)
def test_tile_names(level: TileLevel, index: int, width: int | None, name: str) -> None:
    assert merkle.tile_path(level, index, width) == name
    _, shown, rest = name.split("/", 2)
    assert merkle.parse_tile_path(shown, rest) == (level, index, width)
    assert merkle.tile_path(0, 3, 256) == "tile/0/003"


@pytest.mark.parametrize(
    ("level", "rest"),
    [
        ("64", "000"),
        ("00", "000"),
        ("-1", "000"),
        ("", "000"),
        ("entry", "000"),
        ("Entries", "000"),
        ("1\n", "000"),
        ("\u0661", "000"),
        ("0", ""),
        ("0", "0"),
        ("0", "0000"),
        ("0", "00a"),
        ("0", "x000"),
        ("0", "x000/001"),
        ("0", "001/000"),
        ("0", "X001/000"),
        ("0", "x001/000/"),
        ("0", "/000"),
        ("0", "000\n"),
        ("0", "000.p"),
        ("0", "000.p/"),
        ("0", "000.p/0"),
        ("0", "000.p/05"),
        ("0", "000.p/256"),
        ("0", "000.p/-1"),
        ("0", "000.p/1/"),
        ("0", "../000"),
        ("0", "x999/x999/x999/x999/x999/x999/999"),
        ("0", "x001/x000/x000/x000/x000/x000/x000/000"),
    ],
)
def test_every_other_name_is_refused(level: str, rest: str) -> None:
    with pytest.raises(InvalidTile):
        merkle.parse_tile_path(level, rest)


@pytest.mark.parametrize(("level", "index", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 2**63, 1), (0, 0, 257)])
def test_impossible_tiles_have_no_name(level: int, index: int, width: int) -> None:
    with pytest.raises(InvalidTile):
        merkle.tile_path(level, index, width)


@settings(deadline=None, max_examples=trials(30, 50))
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundles_come_back(entries: list[bytes]) -> None:
    data = merkle.encode_bundle(entries)
    assert merkle.decode_bundle(data) == entries
    for cut in (data[:-1], data + b"\x00", data + b"\x00\x01"):
        # Cutting an empty last entry's length, or adding a lone byte, leaves no whole length prefix either.
        with pytest.raises(InvalidTile):
            merkle.decode_bundle(cut)


def test_bundle_bytes_and_limits() -> None:
    assert merkle.encode_bundle([b"a", b"", b"b" * 258]) == b"\x00\x01a\x00\x00\x01\x02" + b"b" * 258
    assert merkle.decode_bundle(merkle.encode_bundle([b"x" * 65_535])) == [b"x" * 65_535]
    for entries in ([b"x" * 65_536], [], [b""] * 257):
        with pytest.raises(InvalidTile):
            merkle.encode_bundle(entries)
    for data in (b"", b"\x00\x00" * 257):
        with pytest.raises(InvalidTile):
            merkle.decode_bundle(data)
