"""Line breaks for texts of English, Chinese and long digests. Pure.

English breaks at spaces, Chinese between characters. No line begins with closing punctuation or ends with an opening
bracket. A word that is longer than a line, such as a digest in a narrow column, is cut where the line is full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_CLOSING = "，。、；：？！）】》」』〉”’…％·,.;:?!)]}%"
_OPENING = "（【《「『〈“‘([{"
_WIDE = r"\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
_WORD = re.compile(rf"\s+|[{re.escape(_OPENING)}]*(?:[{_WIDE}]|[^\s{_WIDE}]+)[{re.escape(_CLOSING)}]*|[^\s]")


def lines(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Return `text` as one or more lines of at most `width`, as `measure` measures it. Line feeds of the text are
    kept."""
    return [line for paragraph in text.split("\n") for line in _broken(paragraph, width, measure)]


def _broken(text: str, width: float, measure: Callable[[str], float]) -> Iterator[str]:
    line = ""
    for word in _WORD.findall(text):
        if measure(line + word.rstrip()) <= width:
            line += word
            continue
        if line.strip():
            yield line.rstrip()
        *full, line = _cut(word.lstrip(), width, measure)
        yield from full
    yield line.rstrip()


def _cut(word: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Return `word` in pieces that fit; more text may follow the last one. A character wider than a line is one
    piece."""
    pieces = [""]
    for character in word:
        if pieces[-1] and measure(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces
