"""The error table is complete, one code means one thing, and docs/api.md lists every row."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson
import pytest

from api.errors import INTERNAL, TABLE, internal_response, problem, problem_response
from ledger.errors import (
    ConfigurationError,
    HolderMismatch,
    InvalidIdentifier,
    InvalidInput,
    InvalidProof,
    LedgerError,
    ProofError,
    QuotaExceeded,
    ScopeMissing,
    StaleEpoch,
    UnsupportedKind,
)
from tests.support import ROOT

NEVER_SENT = {
    # Raised where no request is being answered, or a fault of the server if one is: 500 `internal`.
    "configuration_error",
    "policy_invalid",
    "policy_time_invalid",
    "policy_already_published",
    "policy_version_not_next",
    "policy_overtaken",
    "invalid_scalar",
    "rotation_refused",
    # A cursor is checked like any other parameter: `invalid_request`.
    # The client's business: the service never sees an identifier, a proof or a receipt.
    "unexpected_answer",
    # The console has files inspected apart, and tells in its own words why one was not.
    "evidence_unreadable",
    "evidence_too_large",
    "evidence_format_unknown",
    "evidence_malformed",
    "inspection_receipt_invalid",
    "listing_unreadable",
    "picture_unreadable",
    # Files of customers are read by the platform.
    "invalid_table",
    # A referral is made by the platform, of what it reads from the service.
    "inspection_mismatch",
    "report_not_referable",
    *(item.code for item in InvalidIdentifier.__subclasses__() if item is not UnsupportedKind),
}


def classes(root: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    """All error classes below `root`."""
    for subclass in root.__subclasses__():
        yield subclass
        yield from classes(subclass)


def test_every_error_has_a_row_or_is_known_never_to_be_sent() -> None:
    groups = {class_ for class_ in classes() if class_.__subclasses__()}
    proofs = set(classes(ProofError))
    missing = {item.code for item in set(classes()) - TABLE.keys() - groups - proofs} - NEVER_SENT
    assert not missing, "add a row to api/errors.py, or say here why the API never sends it"
    assert TABLE.keys().isdisjoint({InvalidProof, HolderMismatch, ConfigurationError, InvalidInput})


def test_codes_are_unique_and_stable_in_form() -> None:
    codes = [class_.code for class_ in classes()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_the_guide_lists_exactly_the_table() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \| (.+) \|$", text, re.MULTILINE)
    rows = {(value.code, str(row.status), row.title) for value, row in TABLE.items()}
    assert set(listed) == rows | {("internal", "500", INTERNAL.title)}
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("error", TABLE, ids=lambda error: error.code)
def test_every_row_makes_a_problem(error: type[LedgerError]) -> None:
    details = {"scope": "report"} if error is ScopeMissing else {"allow": "GET"}
    answer = problem_response(error("One sentence.", **details), "r-1")
    assert answer.status_code == TABLE[error].status
    assert answer.headers["content-type"] == "application/problem+json"
    assert orjson.loads(answer.body) == {
        "type": f"urn:refund-ledger:problem:{error.code}",
        "title": TABLE[error].title,
        "status": TABLE[error].status,
        "detail": "One sentence.",
        "code": error.code,
        "request_id": "r-1",
    }
    assert ("retry-after" in answer.headers) == (answer.status_code in (202, 429, 503))
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401 or error is ScopeMissing)
    assert ("allow" in answer.headers) == (answer.status_code == 405)


def test_details_become_members_and_never_replace_the_standard_ones() -> None:
    assert problem(StaleEpoch("Old.", epoch=4), "r")["epoch"] == 4
    shown = problem(StaleEpoch("Old.", status=200, code="x", detail="y"), "r")
    assert (shown["status"], shown["code"], shown["detail"]) == (409, "stale_epoch", "Old.")
    answer = problem_response(QuotaExceeded("Enough.", retry_after_seconds=77), "r")
    assert answer.headers["retry-after"] == "77"
    assert b"retry_after_seconds" not in answer.body


def test_what_has_no_row_says_nothing_about_itself() -> None:
    shown = problem(ConfigurationError("The key file log.key is missing.", path="/keys"), "r-1")
    assert shown == orjson.loads(internal_response("r-1").body)
    assert shown["code"] == "internal"
    assert "key" not in str(shown)
