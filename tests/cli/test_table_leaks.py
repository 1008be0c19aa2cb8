"""No identifier of a table is found in anything that the commands write, whatever the table looks like."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.table_leaks import hunt, leaks, shop, spellings


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with shop(tmp_path_factory.mktemp("shop")) as options:
        yield options


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_no_identifier_of_any_table_is_written_anywhere(
    access: list[str], tmp_path_factory: pytest.TempPathFactory, chance: random.Random
) -> None:
    hunt(chance, access, tmp_path_factory.getbasetemp())


def test_the_search_finds_what_is_there(access: list[str], tmp_path: Path) -> None:
    """The hunt is worth something: tables are read and refused, and every spelling is found."""
    ends: Counter[str] = Counter()
    chance = random.Random(1)
    for _ in range(6):
        ends += hunt(chance, access, tmp_path)
    assert ends.keys() >= {"tag exit 0", "tag exit 2"}
    phone = "+86 138 0013 8000"
    for text in (phone, "tel:13800138000", "８６１３８００１３８０００", "id,138-0013-8000,x", "0086 138 00138000"):
        assert leaks({"out": text}, [("phone", phone)]), text
    assert leaks({"out": "li@EXAMPLE.com"}, [("email", "Li@example.com")])
    assert leaks({"out": "411111111111 1111"}, [("payment", "4111-1111-1111-1111")])
    assert not leaks({"out": "c1,phone,1,invalid_phone"}, [("phone", phone)])
    assert "13800138000" in spellings("phone", "138 0013 8000")
