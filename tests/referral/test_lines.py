"""Breaking lines: nothing is lost, everything fits, and no line begins with a comma."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.referral.lines import lines

TEXTS = st.text(alphabet="ab d，。（）中文字\n…8", max_size=80)


def measure(text: str) -> float:
    """A Chinese character is as wide as two others."""
    return sum(2.0 if ord(character) > 0x2000 else 1.0 for character in text)


@given(TEXTS, st.integers(2, 30))
def test_nothing_is_lost_and_all_fits(text: str, width: int) -> None:
    broken = lines(text, width, measure)
    assert "".join("".join(broken).split()) == "".join(text.split())
    assert all(measure(line) <= width for line in broken)
    assert len(broken) >= text.count("\n") + 1


def test_chinese_breaks_between_characters_and_not_before_punctuation() -> None:
    assert lines("平台已告知，本人", 10, measure) == ["平台已告", "知，本人"]
    assert lines("本人（申诉）", 8, measure) == ["本人（申", "诉）"]
    assert lines("本人（申诉）", 6, measure) == ["本人", "（申", "诉）"]


def test_english_breaks_at_spaces_and_digests_where_the_line_is_full() -> None:
    assert lines("the order was refused", 9, measure) == ["the order", "was", "refused"]
    assert lines("digest 0123456789abcdef", 8, measure) == ["digest", "01234567", "89abcdef"]
    assert lines("", 8, measure) == [""]
