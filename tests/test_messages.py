"""Every text that a person reads is translated into every language, and nothing is left over in the catalogues."""

from __future__ import annotations

from pathlib import Path

import pytest
from babel.messages.catalog import Catalog

from tests.messages import TRANSLATED, MessageId, Problem, area_of, catalogues, extracted, mend, placeholders, problems

pytestmark = pytest.mark.checks_code


@pytest.fixture(scope="module")
def texts() -> dict[MessageId, list[str]]:
    """All texts of the code, with the files that say them."""
    return extracted()


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated(texts: dict[MessageId, list[str]], language: str) -> None:
    result = problems(texts, catalogues(language))
    assert result == [], "\n" + "\n".join(map(str, result)) + "\n`python -m tests.messages` adds what is missing"


def test_texts_are_found_at_all(texts: dict[MessageId, list[str]]) -> None:
    assert "ledger/server/texts/letters.py" in texts["What happens now"]
    assert "ledger/code_names.py" in texts["It was not me"]


def test_code_and_templates_are_read(tmp_path: Path) -> None:
    root = tmp_path / "api"
    (root / "console" / "templates").mkdir(parents=True)
    (root / "console" / "views.py").write_text(
        't.gettext("A %(b)s", b=1)\nt.ngettext("one", "%(num)s many", 2)\n', "utf-8"
    )
    (root / "console" / "templates" / "page.html").write_text(
        "{{ _('Queue') }}{% trans n=n %}Case {{ n }}{% endtrans %}", "utf-8"
    )
    said = extracted([root], tmp_path)
    assert set(said) == {"A %(b)s", ("one", "%(num)s many"), "Queue", "Case %(n)s"}
    assert said["Queue"] == ["api/console/templates/page.html"]


def catalogue(**strings: str) -> Catalog:
    catalog = Catalog(locale="zh_CN")
    for message, string in strings.items():
        catalog.add(message.replace("_", " "), string)
    return catalog


def found(said: dict[MessageId, list[str]], **files: Catalog) -> list[str]:
    return [problem.what for problem in problems(said, {f"{name}.po": value for name, value in files.items()})]


LANGUAGE = TRANSLATED[0]
SAID: dict[MessageId, list[str]] = {"Yes": ["ledger/x.py"]}


def test_each_fault_is_found() -> None:
    assert found(SAID, letters=catalogue(Yes="是")) == []
    assert found(SAID, letters=catalogue()) == ["not in letters.po"]
    assert found(SAID, letters=catalogue(Yes="")) == ["not translated"]
    assert found(SAID, letters=catalogue(Yes="是 %(n)s")) == ["other placeholders"]
    assert found(SAID, letters=catalogue(Yes="是|否")) == ["another number of cells"]
    assert found(SAID, letters=catalogue(Yes="是", No="否")) == ["said nowhere"]
    assert found(SAID, letters=catalogue(Yes="是"), me=catalogue(Yes="对")) == [
        "translated otherwise in another catalogue"
    ]
    fuzzy = Catalog(locale="zh_CN")
    fuzzy.add("Yes", "是", flags=["fuzzy"])
    assert found(SAID, letters=fuzzy) == ["fuzzy"]


def test_a_plural_has_all_its_placeholders() -> None:
    said: dict[MessageId, list[str]] = {("%(num)s day of %(n)s", "%(num)s days of %(n)s"): ["ledger/x.py"]}
    for string, faults in (("%(n)s 的 %(num)s 天", []), ("%(num)s 天", ["other placeholders"])):
        catalog = Catalog(locale="zh_CN")
        catalog.add(("%(num)s day of %(n)s", "%(num)s days of %(n)s"), (string,))
        assert found(said, letters=catalog) == faults
    assert placeholders("100%% of %(n)s, %(m)d") == {"%(n)s", "%(m)d"}


@pytest.mark.parametrize(
    ("source", "area"),
    [
        ("api/console/templates/queue.html", "console"),
        ("api/consumer/pages.py", "me"),
        ("ledger/server/texts/letters.py", "letters"),
        ("ledger/server/staff/accounts.py", "letters"),
    ],
)
def test_a_text_belongs_to_an_area(source: str, area: str) -> None:
    assert area_of(source) == area


def test_mending_adds_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    mend(SAID, LANGUAGE, tmp_path)
    text = (tmp_path / "letters.po").read_text("utf-8")
    (tmp_path / "letters.po").write_text(text.replace('msgid "Yes"\nmsgstr ""', 'msgid "Yes"\nmsgstr "是"'), "utf-8")
    more: dict[MessageId, list[str]] = {**SAID, "Page": ["api/consumer/page.html"]}
    mend(more, LANGUAGE, tmp_path)
    assert problems(more, catalogues(LANGUAGE, tmp_path)) == [Problem("me.po", "not translated", "Page")]
    mend(SAID, LANGUAGE, tmp_path)
    assert problems(SAID, catalogues(LANGUAGE, tmp_path)) == []
