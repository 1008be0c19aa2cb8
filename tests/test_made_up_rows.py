"""A further conduct, jurisdiction, outcome, signal, type of entry, webhook event or language is one row, its texts and
a row of a page: with the row alone everything works, and what is left to do is named."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from ledger.rules.conduct import Conduct
from ledger.rules.findings import FindingCode
from ledger.rules.jurisdictions import Profile
from ledger.rules.outcomes import Outcome
from ledger.rules.webhooks import EVENTS
from ledger.tlog.entries import EventType
from tests.forked import run_command
from tests.made_up_rows import KINDS, ROWS
from tests.support import ROOT

TEXTS = {"conduct": 1, "jurisdiction": 6, "outcome": 5, "signal": 3, "entry": 1, "webhook_event": 0, "language": 0}
"""How many texts the made-up row of each kind brings; each is one place in the catalogue of each language."""

PAGES: dict[str, Iterable[str]] = {
    "reports.md": Conduct,
    "jurisdictions.md": Profile,
    "appeals.md": Outcome,
    "evidence.md": FindingCode,
    "log.md": EventType,
    "webhooks.md": EVENTS,
}
"""The one page that lists the codes of each kind; the tests of its area compare it with the rows."""


@pytest.fixture(scope="module")
def untranslated() -> dict[str, list[str]]:
    """What `tests.made_up_rows` prints, in a process of its own: a row changes what every module is made from. A forked
    one has the libraries already."""
    done = run_command([], folder=ROOT, module="tests.made_up_rows")
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_one_row_is_all_that_the_code_needs(untranslated: dict[str, list[str]]) -> None:
    assert untranslated.keys() == {check.__name__ for check in KINDS} == TEXTS.keys()
    assert len(ROWS) == len(KINDS), "a row changes one file"


@pytest.mark.parametrize("kind", TEXTS)
def test_the_texts_of_a_row_are_all_that_a_catalogue_lacks(kind: str, untranslated: dict[str, list[str]]) -> None:
    assert len(untranslated[kind]) == TEXTS[kind]
    assert all(untranslated[kind])


@pytest.mark.parametrize("name", PAGES)
def test_one_page_lists_every_code(name: str) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert [code for code in PAGES[name] if f"`{code}`" not in page and f"| {code} |" not in page] == []
    made_up = ("item_swap_claim", "ZZ", "set_aside", "content_marked", "objection", "lookup.corrected")
    assert not any(f"`{code}`" in page for code in made_up), "a row of the page is left to write for it"
