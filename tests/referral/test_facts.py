"""What a referral holds for whom, what it refuses, and that nothing else gets in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger.client.models.reports import ReportAppeal
from ledger.errors import (
    ConfigurationError,
    InspectionMismatch,
    InspectionReceiptInvalid,
    LedgerError,
    NewerFormat,
    ReportNotReferable,
    UnexpectedAnswer,
)
from ledger.protocol.encoding import b64url
from ledger.referral.audience import GIVEN, Audience, Part
from ledger.referral.document import render
from ledger.referral.facts import Referral, to_json
from ledger.referral.inspections import MAX_FILE_BYTES, read_receipts
from ledger.rules.reports import Status
from ledger.tlog.proof import is_sealed, open_receipt, open_sealed_receipt
from tests.referral.samples import (
    CLAIM,
    LOG_PUBLIC,
    NOW,
    ORIGIN,
    PRODUCE_ID,
    STATEMENT,
    body,
    digest,
    disputed,
    evidence_json,
    inspection,
    receipts,
    referred,
    source,
)
from tests.support import ROOT


def value_of(referral: Referral) -> dict[str, Any]:
    value = json.loads(to_json(referral))
    assert isinstance(value, dict)
    return value


def names_in(value: object) -> set[str]:
    """Every member's name at any depth."""
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in names_in(item)}
    return {name for member in value for name in names_in(member)} if isinstance(value, list) else set()


BELONGS = {
    Part.DECISION: {"decided_by", "notice_ref"},
    Part.MONEY: {"money", "amount_minor", "losses"},
    Part.ORDER: {"order"},
    Part.STATEMENTS: {"said"},
    Part.LAW: {"law"},
    Part.REFERENCES: {"references", "order_ref", "consent_ref"},
    Part.ACT: {"conduct", "act_ended_at", "status"},
    Part.FINDINGS: {"inspections", "facts", "produce_id"},
    Part.APPEAL_STATE: {"appeal", "due_at"},
}


@pytest.mark.parametrize("audience", Audience)
def test_each_recipient_gets_the_parts_of_the_table_and_no_others(audience: Audience) -> None:
    referral = referred(audience, disputed(order="A-1001"))
    names = names_in(value_of(referral))
    for part, members in BELONGS.items():
        assert members <= names if audience in GIVEN[part] else not members & names, part
    intake = digest(b"intake").hex()
    assert (intake in to_json(referral).decode()) == (audience in GIVEN[Part.EVIDENCE])
    assert is_sealed(referral.reports[0].receipt) == (audience not in GIVEN[Part.WHOLE_RECEIPT])


def test_an_ai_provider_learns_neither_amount_nor_order_nor_what_was_said() -> None:
    referral = referred(Audience.AI_PROVIDER, disputed(order="A-1001"))
    everything = to_json(referral).decode() + referral.reports[0].receipt
    for secret in (
        "12900",
        "CNY",
        "A-1001",
        STATEMENT,
        "agent-7",
        "notice-4711",
        "separate-consent-2026-11-03-8842",
        "refund_suffered",
    ):
        assert secret not in everything
    leaf, checkpoint = open_sealed_receipt(referral.reports[0].receipt, ORIGIN, LOG_PUBLIC)
    assert (leaf.index, checkpoint.size) == (1, 3)
    assert PRODUCE_ID in everything


@pytest.mark.parametrize("audience", Audience)
def test_no_salt_no_commitment_and_no_free_text_is_told(audience: Audience) -> None:
    text = to_json(referred(audience, source())).decode()
    assert "Wang Xiaoming" not in text
    assert not {"subjects", "c", "salt", "element", "tag", "tier", "credit"} & names_in(json.loads(text))
    assert b64url(digest(b"c1")) not in text


def test_the_receipt_of_an_authority_opens_the_very_body() -> None:
    referral = referred(Audience.AUTHORITY, source())
    opened = open_receipt(referral.reports[0].receipt, ORIGIN, LOG_PUBLIC)
    body = opened.entry["body"]
    report = value_of(referral)["reports"][0]
    assert (body["amount_minor"], body["decided_by"]) == (report["money"]["amount_minor"], report["decided_by"])
    assert report["receipt"] == {
        "file": "receipts/rp_Xk3mPq9001.txt",
        "entry_index": 1,
        "hour": "2026-11-13T09:00:00Z",
        "log_size": 3,
    }


@pytest.mark.parametrize("status", Status)
def test_only_what_still_stands_is_referred(status: Status) -> None:
    referred_source = source(status=status.value)
    if status in {Status.HELD, Status.WITHDRAWN, Status.OVERTURNED, Status.VICTIM, Status.EXPIRED, Status.ERASED}:
        with pytest.raises(ReportNotReferable) as caught:
            referred(Audience.AUTHORITY, source(7), referred_source)
        assert caught.value.details == {"report": referred_source.view.id, "status": status.value}
    else:
        assert value_of(referred(Audience.AUTHORITY, referred_source))["reports"][0]["status"] == status.value


def test_a_report_that_protects_is_not_referred() -> None:
    with pytest.raises(ReportNotReferable):
        referred(Audience.AUTHORITY, source(conduct="impersonated"))


def test_a_ledger_that_says_something_else_than_was_signed_is_not_believed() -> None:
    for lie in ({"amount_minor": 1}, {"currency": "USD"}, {"order_ref": b64url(bytes(32))}, {"act_ended_at": NOW}):
        changed = source()
        for name, value in lie.items():
            msgspec.structs.force_setattr(changed.view, name, value)
        with pytest.raises(UnexpectedAnswer):
            referred(Audience.AUTHORITY, changed)


@pytest.mark.parametrize("where", ["conduct", "amended"])
def test_a_report_of_a_conduct_of_a_later_version_is_not_referred(where: str) -> None:
    """It may protect the person."""
    appeal = ReportAppeal("ap_Xk3mPq9a", "decided", NOW, "amended", "item_swap_claim")
    referred_source = source(conduct="item_swap_claim") if where == "conduct" else source(appeal=appeal)
    with pytest.raises(ReportNotReferable):
        referred(Audience.AUTHORITY, referred_source)


def test_what_later_versions_add_to_a_body_changes_no_referral() -> None:
    further = {"later": [1]}
    items = [{**item, "x_added": further} for item in body()["evidence"]]
    plain, later = source(), source(evidence=items, x_added=further)
    values = [value_of(referred(Audience.AUTHORITY, item))["reports"][0] for item in (plain, later)]
    assert values[0]["evidence"] == values[1]["evidence"]
    assert open_receipt(later.receipt.text, ORIGIN, LOG_PUBLIC).entry["body"]["x_added"] == further
    with pytest.raises(NewerFormat):
        referred(Audience.AUTHORITY, source(v=2))


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_an_appeal_with_codes_of_a_later_version_is_printed(locale: str) -> None:
    for state, outcome in (("mediation", None), ("decided", "settled")):
        referral = referred(Audience.AUTHORITY, source(appeal=ReportAppeal("ap_Xk3mPq9a", state, NOW, outcome, None)))
        assert render(referral, locale, to_json(referral)).startswith(b"%PDF")


def test_an_amended_conduct_stands_beside_the_reported_one() -> None:
    appeal = ReportAppeal("ap_Xk3mPq9a", "decided", NOW, "amended", "wardrobing")
    report = value_of(referred(Audience.MERCHANT, source(appeal=appeal)))["reports"][0]
    assert (report["conduct"], report["amended_conduct"]) == ("ai_fabricated_image", "wardrobing")
    assert report["appeal"]["outcome"] == "amended"


# --- inspections --------------------------------------------------------------------------------------------------


def test_without_the_full_receipt_only_codes_are_told() -> None:
    [value] = value_of(referred(Audience.AI_PROVIDER, source(), known={}))["reports"][0]["inspections"]
    (shown,) = value["findings"]
    assert "anybody can write the label" in shown.pop("does_not_show")
    assert shown == {"code": "aigc_generated", "strength": "indicates", "about": "made_by_ai"}
    assert value["in_report"] is True
    assert value["receipt_sha256"] == inspection().in_report().receipt_sha256.hex()


def test_a_receipt_of_no_reported_file_is_refused() -> None:
    with pytest.raises(InspectionMismatch):
        referred(Audience.AI_PROVIDER, source(), known=receipts(inspection(), inspection(b"another file")))


def test_a_receipt_that_is_not_the_reported_one_is_refused() -> None:
    value = inspection().to_json()
    value["findings"][0]["facts"]["produce_id"] = "another number"
    with pytest.raises(InspectionMismatch) as caught:
        referred(Audience.AI_PROVIDER, source(), known={digest(CLAIM): value})
    assert caught.value.details == {"file_sha256": digest(CLAIM).hex()}


def test_a_receipt_that_no_report_carries_is_told_apart() -> None:
    finding = {"code": "x", "strength": "identifies", "tool_version": "other/1"}
    items = [*evidence_json(None)]
    items[1]["finding"] = finding
    [value] = value_of(referred(Audience.AI_PROVIDER, source(evidence=items)))["reports"][0]["inspections"]
    assert value["in_report"] is False


def test_what_speaks_for_the_person_is_in_the_file() -> None:
    camera = inspection(b"cam", captured=True)
    referral = referred(Audience.AI_PROVIDER, source(evidence=evidence_json(camera, b"cam")), known=receipts(camera))
    [value] = value_of(referral)["reports"][0]["inspections"]
    assert [finding["about"] for finding in value["findings"]] == ["captured"]


def test_receipts_are_read_as_inspect_writes_them(tmp_path: Path) -> None:
    receipt = inspection().to_json()
    single, printed = tmp_path / "single.json", tmp_path / "printed.json"
    single.write_text(json.dumps(receipt))
    printed.write_text(json.dumps({"files": [{"file": "a.png", "receipt": receipt}]}))
    assert read_receipts([single, printed]) == {digest(CLAIM): receipt}


def test_files_that_hold_no_receipt_are_named_errors(tmp_path: Path) -> None:
    path, receipt = tmp_path / "x.json", inspection().to_json()
    stronger = json.loads(json.dumps(receipt))
    stronger["findings"][0]["strength"] = "hint"
    nested = json.loads(json.dumps(receipt))
    nested["findings"][0]["facts"]["label"] = {"a": 1}
    other = json.loads(json.dumps(receipt)) | {"tool": "another/1"}
    wrong: list[tuple[object, type[LedgerError]]] = [
        ({"files": [{"file": "a.png", "error": {}}]}, InspectionReceiptInvalid),
        ([], InspectionReceiptInvalid),
        (stronger, InspectionReceiptInvalid),
        (nested, InspectionReceiptInvalid),
        ({"files": [{"receipt": receipt}, {"receipt": other}]}, InspectionMismatch),
    ]
    for value, error in wrong:
        path.write_text(json.dumps(value))
        with pytest.raises(error):
            read_receipts([path])
    path.write_text("{")
    with pytest.raises(ConfigurationError):
        read_receipts([path])
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(InspectionReceiptInvalid):
        read_receipts([path])


# --- the page -----------------------------------------------------------------------------------------------------


def page() -> str:
    return (ROOT / "docs" / "referral.md").read_text(encoding="utf-8")


def test_the_table_of_parts_on_the_page_is_that_of_the_code() -> None:
    shown = {}
    for part, *cells in re.findall(
        r"^\| `(\w+)` \| [^|]+ \| (yes|no) \| (yes|no) \| (yes|no) \|$", page(), re.MULTILINE
    ):
        shown[Part(part)] = {audience for audience, cell in zip(Audience, cells, strict=True) if cell == "yes"}
    assert shown == {part: set(audiences) for part, audiences in GIVEN.items()}


def test_the_example_on_the_page_has_the_members_of_the_code() -> None:
    [block] = re.findall(r"```json\n(.*?)```", page(), re.DOTALL)
    example = json.loads(block)
    value = value_of(referred(Audience.AUTHORITY, disputed(1, order="A-1001")))
    for name in ("v", "made_at", "log", "asserts_no_offence"):
        assert example[name] == value[name]
    assert set(example) == set(value)
    assert set(example["reports"][0]) == set(value["reports"][0])
    assert names_in(example) <= names_in(value)
    assert example["losses"] == value["losses"]
    assert example["law"][0].keys() == value["law"][0].keys()
    assert (
        example["reports"][0]["inspections"][0]["receipt_sha256"]
        == (value["reports"][0]["inspections"][0]["receipt_sha256"])
    )


def test_the_rules_on_the_page_are_those_of_the_code() -> None:
    laws = referred(Audience.AUTHORITY, source()).laws
    shown = re.findall(r"^\| [^|]+ \| ([^|]+) \| (\d{4}-\d\d-\d\d) \|$", page(), re.MULTILINE)
    assert shown == [(law.source.replace("中华人民共和国", ""), law.since) for law in laws]
    assert not referred(Audience.AUTHORITY, source(), profile="EU").laws
