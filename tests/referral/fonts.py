"""A font for documents of tests that has the characters of the ledger's texts and of the tests, made once a run.

Documents are made with a font of 30,000 characters. To read it, and to take out what a document uses, is most of the
work of a document. With the reduced font the pages look the same.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from fontTools import subset  # type: ignore[import-untyped]

from ledger.referral import pdf
from tests.support import ROOT
from tests.workers import made_once

_WITH_TEXTS = ("ledger/**/*.py", "ledger/locale/**/*.po", "tests/referral/*.py")


def _reduce(folder: Path) -> None:
    characters = {chr(code) for code in range(0x20, 0x180)}
    for pattern in _WITH_TEXTS:
        for path in ROOT.glob(pattern):
            characters.update(path.read_text("utf-8"))
    options = subset.Options(notdef_outline=True, recommended_glyphs=True, layout_features=[], name_IDs=["*"])
    with subset.load_font(str(files(pdf.FONT_PACKAGE) / pdf.FONT_FILE), options) as font:
        font.recalcBBoxes = False  # as in documents: the boxes of the whole font
        subsetter = subset.Subsetter(options)
        subsetter.populate(text="".join(characters))
        subsetter.subset(font)
        folder.mkdir()
        subset.save_font(font, str(folder / pdf.FONT_FILE), options)


@pytest.fixture(scope="session")
def reduced_font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the font."""
    return made_once(tmp_path_factory, "reduced-font", _reduce)


@pytest.fixture
def whole_font() -> None:
    """For a test that makes its documents with the font as it is."""


@pytest.fixture(autouse=True)
def quick_font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file that imports this, documents are made with the reduced font, except in tests with `whole_font`."""
    if "whole_font" not in request.fixturenames:
        folder: Path = request.getfixturevalue("reduced_font")
        monkeypatch.setattr(pdf, "files", lambda package: folder)
