"""The tables of docs/sdk.md have the methods of the SDK, their arguments and errors, allowed values and fields."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Set
from enum import Enum, StrEnum
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints

import pytest

from ledger import client, errors
from ledger.client import RefundLedger, choices
from ledger.client.models.decoding import Model
from ledger.client.renamed import Renamed
from ledger.client.reports import building
from ledger.rules.appeals import CaseState, Grounds
from ledger.rules.guidance import Claim
from ledger.rules.provenance import Verdict
from ledger.rules.reports import RefundOutcome
from ledger.server.appeals.participants import Party
from ledger.server.texts import letters
from ledger.tlog.entries import LEDGER_REASONS, WithdrawalReason
from tests.support import ROOT

PAGE = (ROOT / "docs" / "sdk.md").read_text("utf-8")
NAMESPACES: dict[str, type] = {
    "": RefundLedger,
    "reports.": client.Reports,
    "outbox.": client.OutboxQueue,
    "appeals.": client.Appeals,
    "pictures.": client.Pictures,
    "webhooks.": client.Webhooks,
}
OF_EVERY_METHOD = {
    "InvalidRequest", "Unauthenticated", "Forbidden", "Unavailable", "UnexpectedAnswer", "AnswerMismatch",
}  # fmt: skip
"""Errors that the page names above the tables."""
ENUMS: dict[str, tuple[Any, Set[str]]] = {
    "RefundClaim": (choices.RefundClaim, set(Claim)),
    "ReportOutcome": (choices.ReportOutcome, set(RefundOutcome)),
    "ReasonForWithdrawal": (choices.ReasonForWithdrawal, set(WithdrawalReason) - LEDGER_REASONS),
    "IssuerVerdict": (choices.IssuerVerdict, set(Verdict)),
    "AppealGrounds": (choices.AppealGrounds, set(Grounds)),
    "AppealState": (choices.AppealState, set(CaseState)),
    "AppealParty": (choices.AppealParty, set(Party)),
    "LetterKind": (choices.LetterKind, set(letters.LetterKind)),
}
"""Types of arguments, each with the values that the rules or the server have."""


def rows(header: str) -> list[list[str]]:
    """Return the cells of all rows of the page's tables with this header."""
    tables = re.findall(rf"^{re.escape(header)}\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def methods() -> dict[str, Callable[..., object]]:
    """Return the public methods of the client and its namespaces, without the names until version 0.2.0."""
    return {
        prefix + name: getattr(owner, name)
        for prefix, owner in NAMESPACES.items()
        for name, member in vars(owner).items()
        if not name.startswith("_") and not isinstance(member, Renamed | property)
    }


def parameters(method: Callable[..., object]) -> str:
    """Return the parameters as they are written in a call of the method, with their defaults."""
    shown = []
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        default = parameter.default
        quoted = f'"{default}"' if isinstance(default, str) else str(default)
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        shown.append(stars + parameter.name + ("" if default is parameter.empty else f"={quoted}"))
    return ", ".join(shown)


def own_errors(method: Callable[..., object]) -> set[str]:
    """Return the errors that the method's docstring names, without those of every method."""
    words = set(re.findall(r"\b[A-Z]\w+\b", inspect.getdoc(method) or ""))
    return {word for word in words if isinstance(getattr(errors, word, None), type)} - OF_EVERY_METHOD


METHODS = methods()
ROWS = {named(row[0])[0]: row for row in rows("| method | arguments | result | errors |")}


def test_the_tables_have_every_method_in_its_order() -> None:
    assert list(ROWS) == list(METHODS)
    assert len(METHODS) > 50


@pytest.mark.parametrize("name", METHODS)
def test_a_row_has_the_arguments_and_errors_of_its_method(name: str) -> None:
    _, arguments, result, raised = ROWS[name]
    assert named(arguments) == [shown for shown in [parameters(METHODS[name])] if shown]
    assert result
    assert set(named(raised)) == own_errors(METHODS[name])


def test_every_type_of_a_result_can_be_imported() -> None:
    types = {type_ for row in ROWS.values() for type_ in re.findall(r"`([A-Z]\w+)`", row[2])}
    assert len(types) > 15
    assert sorted(types - set(client.__all__)) == []


def literal_values(alias: Any) -> tuple[list[str], set[Enum]]:
    """Return the texts of an alias, and the members of enums that it accepts."""
    texts: list[str] = []
    members: set[Enum] = set()
    for part in [alias] if get_origin(alias) is Literal else get_args(alias):
        if isinstance(part, type) and issubclass(part, StrEnum):
            members |= set(part)
            continue
        for value in get_args(part):
            if isinstance(value, Enum):
                members.add(value)
            else:
                texts.append(value)
    return texts, members


def test_the_table_of_allowed_values_has_every_type_and_its_values() -> None:
    listed = {named(type_)[0]: named(values) for _, type_, values in rows("| argument | type | values |")}
    aliases = {name for name, value in vars(choices).items() if get_args(value)}
    assert set(listed) == {*aliases, "CheckPolicy", "ItemState"}
    for name, values in listed.items():
        assert values == literal_values(getattr(client, name))[0], name


@pytest.mark.parametrize("name", ENUMS)
def test_a_type_has_the_values_of_the_rules_as_text_and_as_members(name: str) -> None:
    alias, values = ENUMS[name]
    texts, members = literal_values(alias)
    assert len(texts) == len(set(texts))
    assert set(texts) == values
    assert members in (set(), {value for value in values if isinstance(value, Enum)})
    assert bool(members) == (name not in {"AppealParty", "LetterKind"})  # these enums are the server's


def test_arguments_of_a_report_are_those_of_a_report_file() -> None:
    assert sorted(choices.ReportArguments.__annotations__) == list(building.FIELDS)
    of_create = get_type_hints(client.Reports.create)
    of_dict = get_type_hints(choices.ReportArguments, include_extras=True)
    optional = {name for name, type_ in of_dict.items() if get_origin(type_) is NotRequired}
    defaults = {
        parameter.name
        for parameter in inspect.signature(client.Reports.create).parameters.values()
        if parameter.default is not parameter.empty
    }
    assert optional == defaults
    assert get_type_hints(choices.ReportArguments) == {name: of_create[name] for name in of_dict}
    assert of_create.keys() - of_dict.keys() == {"buyer", "return"}


def test_the_table_of_fields_has_the_fields_of_each_class() -> None:
    listed = {named(result)[0]: named(fields) for result, fields in rows("| result | fields |")}
    assert {"Lookup", "ReportView", "Appeal", "AcceptedReport", "Delivery"} <= listed.keys()
    for name, fields in listed.items():
        type_ = getattr(client, name)
        if issubclass(type_, Model):
            assert fields == list(type_.__struct_fields__), name
        else:
            assert fields == [field.name for field in dataclasses.fields(type_)], name
