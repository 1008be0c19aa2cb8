"""Who signed decides how far a manifest goes: chains under lists of our own, self-made ones in famous names, ancestors,
dates, and labels that any person can write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import c2pa  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import ConfigurationError, EvidenceInsufficient
from ledger.evidence import finding_texts
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import Conclusion, InspectionReceipt
from ledger.evidence.signals import signers
from ledger.evidence.signals.signers import Times, TrustLists, read_trust_lists, recorded_trust, shipped, trust_of
from ledger.rules.conduct import Conduct, Evidence, EvidenceType, check_evidence
from ledger.rules.corroboration import Again, Corroboration, corroborations
from ledger.rules.findings import TRUSTED, FindingCode, Strength, Trust, speaks_for_person
from ledger.rules.provenance import Origin, OriginSource
from tests.counts import trials
from tests.evidence import files
from tests.evidence.signed import Authority, Keys, authority, certificate, created, sign, trust_lists, using
from tests.evidence.stamps import stamping

MADE, CAPTURED = "trainedAlgorithmicMedia", "digitalCapture"
C = FindingCode
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def official() -> Authority:
    return authority(common="Official root")


@pytest.fixture(scope="module")
def interim() -> Authority:
    return authority(common="Interim root")


@pytest.fixture(scope="module")
def lists(official: Authority, interim: Authority, tmp_path_factory: pytest.TempPathFactory) -> TrustLists:
    return trust_lists(tmp_path_factory.mktemp("lists"), [official], [interim])


@pytest.fixture(scope="module")
def listed(official: Authority) -> Keys:
    return certificate("Listed maker", issuer=official)


@pytest.fixture(scope="module")
def unlisted() -> Keys:
    return certificate()


def signed(keys: Keys, source: str = MADE, **more: Any) -> bytes:
    return sign(files.png(), "image/png", [created(source)], **keys, **more)


def ai_label(receipt: InspectionReceipt) -> Evidence:
    return Evidence(EvidenceType.AI_LABEL, receipt.sha256, inspection=receipt.in_report())


def report(receipt: InspectionReceipt) -> list[Evidence]:
    """What a report of severity 6 rests on: the file, its label, and a word."""
    origin = Origin(OriginSource.CLAIM_UPLOAD, NOW)
    original = Evidence(EvidenceType.ORIGINAL_FILE, receipt.sha256, origin=origin)
    return [original, ai_label(receipt), Evidence(EvidenceType.PHYSICAL_CONTRADICTION, b"p" * 32)]


def mark(receipt: InspectionReceipt) -> Corroboration:
    """The console's mark for the label when a reviewer inspects the file again and finds the same."""
    again = Again(receipt.in_report(), receipt.complete)
    return corroborations([ai_label(receipt)], {receipt.sha256: again})[0]


# --- lists of our own -------------------------------------------------------------------------------------------


def test_a_listed_signer_identifies(listed: Keys, lists: TrustLists) -> None:
    receipt = inspect_bytes(signed(listed), trust_lists=lists)
    (finding,) = receipt.findings
    assert (finding.code, finding.strength, finding.trust) == (C.C2PA_AI_GENERATED, Strength.IDENTIFIES, Trust.LISTED)
    assert (receipt.conclusion, receipt.trust) == (Conclusion.AI_IDENTIFIED, Trust.LISTED)
    assert receipt.trust_lists == lists.state
    check_evidence(Conduct.AI_FABRICATED_IMAGE, report(receipt))
    check_evidence(Conduct.TAMPERED_VIDEO, report(receipt)[:2])
    assert mark(receipt) is Corroboration.FOUND_AGAIN
    assert receipt.notes == ()


def test_a_listed_camera_speaks_for_the_person(listed: Keys, lists: TrustLists) -> None:
    receipt = inspect_bytes(signed(listed, CAPTURED), trust_lists=lists)
    carried = receipt.in_report()
    assert [finding.code for finding in receipt.findings] == [C.C2PA_CAPTURED]
    assert speaks_for_person(carried.findings, carried.trust)
    assert mark(receipt) is Corroboration.CONTRADICTED
    assert "It speaks for the person." in finding_texts.sentence(receipt.findings[0], "en")


def test_the_same_files_under_the_shipped_lists_are_nobodys_word(listed: Keys, lists: TrustLists) -> None:
    data = signed(listed)
    under_ours, shipped_ones = inspect_bytes(data, trust_lists=lists), inspect_bytes(data)
    assert [item.trust for item in (under_ours, shipped_ones)] == [Trust.LISTED, Trust.UNLISTED]
    assert under_ours.in_report().receipt_sha256 != shipped_ones.in_report().receipt_sha256, "other lists"


def test_the_interim_list_counts_for_what_was_met_before_its_end(interim: Authority, tmp_path: Path) -> None:
    data = signed(certificate("Interim maker", issuer=interim))
    ends_at = NOW - timedelta(days=1)
    ended = trust_lists(tmp_path, interim=[interim], ends_at=ends_at)

    def trust(received_at: datetime | None) -> tuple[Trust | None, Conclusion]:
        receipt = inspect_bytes(data, trust_lists=ended, received_at=received_at)
        return receipt.trust, receipt.conclusion

    assert trust(None) == (Trust.UNLISTED, Conclusion.AI_INDICATED)
    assert trust(ends_at - timedelta(seconds=2)) == (Trust.INTERIM, Conclusion.AI_IDENTIFIED)
    too_early = NOW - timedelta(days=100)
    assert trust(too_early) == (Trust.EXPIRED, Conclusion.AI_INDICATED), "the certificate was not yet valid"


def test_a_signers_own_certificate_on_the_interim_list(tmp_path: Path) -> None:
    keys = certificate()
    leaf = keys["chain"].decode().partition("-----END CERTIFICATE-----\n")
    receipt = inspect_bytes(signed(keys), trust_lists=trust_lists(tmp_path, allowed=leaf[0] + leaf[1]))
    assert receipt.trust is Trust.INTERIM


def test_what_is_on_several_lists_is_listed(official: Authority, listed: Keys, tmp_path: Path) -> None:
    """The library picks one of them by chance, at each start anew."""
    everywhere, data = trust_lists(tmp_path, [official], [official], stamps=[official]), signed(listed)
    assert {inspect_bytes(data, trust_lists=everywhere).trust for _ in range(3)} == {Trust.LISTED}


@pytest.mark.enable_socket
def test_a_time_stamp_under_the_lists_shows_when_it_was_signed(
    official: Authority, interim: Authority, tmp_path: Path
) -> None:
    """Certificate and interim list are over when the files are looked at; the stamps are from before."""
    stamps = authority(common="Stamp root")
    with stamping(certificate("Stamps", "A stamp", stamps, stamps=True), tmp_path) as address:

        def sign_both(ends_at: datetime) -> list[bytes]:
            ends = (official, ends_at), (interim, None)
            return [signed(certificate(issuer=item, end=end), stamped_by=address) for item, end in ends]

        (by_listed, by_interim), ends_at = signed_in_time(sign_both, 2)
    while datetime.now(UTC) <= ends_at + timedelta(seconds=1):
        time.sleep(0.1)
    under = trust_lists(tmp_path / "with", [official], [interim], stamps=[stamps], ends_at=ends_at)
    without = trust_lists(tmp_path / "without", [official], [interim], ends_at=ends_at)
    receipts = [inspect_bytes(data, trust_lists=item) for item in (under, without) for data in (by_listed, by_interim)]
    assert [item.trust for item in receipts] == [Trust.LISTED, Trust.INTERIM, Trust.EXPIRED, Trust.UNLISTED]
    assert [item.conclusion is Conclusion.AI_IDENTIFIED for item in receipts] == [True, True, False, False]


def test_an_authority_for_time_stamps_makes_no_signer(unlisted: Keys, tmp_path: Path) -> None:
    lists_with_stamps = trust_lists(tmp_path)
    root = unlisted["chain"].decode().partition("-----END CERTIFICATE-----\n")[2]
    (tmp_path / "official_time_stamps.crt").write_text(root, encoding="ascii")
    assert inspect_bytes(signed(unlisted), trust_lists=lists_with_stamps).trust is Trust.UNLISTED


def test_an_expired_certificate_identifies_nothing(official: Authority, lists: TrustLists) -> None:
    """The library signs with no expired certificate, so time passes between signing and looking."""
    data, ends_at = signed_in_time(lambda end: signed(certificate(issuer=official, end=end)), 1)
    while datetime.now(UTC) <= ends_at:
        time.sleep(0.05)
    receipt = inspect_bytes(data, trust_lists=lists)
    assert (receipt.trust, receipt.conclusion) == (Trust.EXPIRED, Conclusion.AI_INDICATED)
    assert mark(receipt) is Corroboration.INDICATED
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, report(receipt))


Signed = TypeVar("Signed")


def signed_in_time(make: Callable[[datetime], Signed], seconds: int) -> tuple[Signed, datetime]:
    """What `make` signs before the time that it is given, and that time: in `seconds`, or later on a slow machine."""
    for delay in (seconds, 5 * seconds, 20 * seconds):
        ends_at = datetime.now(UTC) + timedelta(seconds=delay)
        with suppress(c2pa.C2paError):  # the certificate was over
            result = make(ends_at)
            if datetime.now(UTC) < ends_at:
                return result, ends_at
    pytest.fail("there was no time to sign")


# --- ancestors --------------------------------------------------------------------------------------------------


@pytest.mark.some_cases(4)
@pytest.mark.parametrize(
    ("parent", "child", "trust"),
    [
        ("listed", "listed", Trust.LISTED),
        ("unlisted", "listed", Trust.UNLISTED),
        ("listed", "unlisted", Trust.UNLISTED),
        ("interim", "listed", Trust.INTERIM),
        ("listed", "interim", Trust.INTERIM),
    ],
)
def test_a_chain_is_as_good_as_its_worst_signature(
    parent: str, child: str, trust: Trust, listed: Keys, unlisted: Keys, interim: Authority, lists: TrustLists
) -> None:
    """A manifest of a famous maker can be put under one's own, and one's own under an honest editor's."""
    keys = {"listed": listed, "unlisted": unlisted, "interim": certificate(issuer=interim)}
    below = signed(keys[parent])
    data = sign(files.png(), "image/png", [using("c2pa.opened", "parentOf")], parent=below, **keys[child])
    receipt = inspect_bytes(data, trust_lists=lists)
    (finding,) = receipt.findings
    assert (finding.code, finding.facts["depth"], finding.trust) == (C.C2PA_AI_GENERATED, 1, trust)
    assert (receipt.conclusion is Conclusion.AI_IDENTIFIED) == (trust in TRUSTED)


def test_metadata_in_a_listed_manifest_is_not_its_signers_word(listed: Keys, lists: TrustLists) -> None:
    """An editor signs the metadata that were in the file, by any writer."""
    for source, code in ((MADE, C.C2PA_AI_GENERATED), (CAPTURED, C.C2PA_CAPTURED)):
        data = {"@context": {"Iptc4xmpExt": files.IPTC_NS}, "Iptc4xmpExt:DigitalSourceType": files.SOURCES + source}
        signed_metadata = sign(
            files.png(), "image/png", [created("digitalArt")], assertions=[("cawg.metadata", data)], **listed
        )
        receipt = inspect_bytes(signed_metadata, trust_lists=lists)
        (finding,) = receipt.findings
        assert (finding.code, finding.trust) == (code, None)
        carried = receipt.in_report()
        assert receipt.conclusion is not Conclusion.AI_IDENTIFIED
        assert not speaks_for_person(carried.findings, carried.trust)


# --- what any person can make ------------------------------------------------------------------------------------

AI, CAMERA = (MADE, C.C2PA_AI_GENERATED), (CAPTURED, C.C2PA_CAPTURED)
MAKERS = [
    ("OpenAI OpCo, LLC", "OpenAI Media Service", AI),
    ("Adobe Inc.", "Adobe Firefly C2PA", AI),
    ("Microsoft Corporation", "Microsoft Responsible AI", AI),
    ("ByteDance Ltd.", "Dreamina", AI),
    ("Google LLC", "Google C2PA Media Services", AI),
    ("Google LLC", "Pixel Camera", CAMERA),
    ("Samsung corporation", "Samsung Galaxy", AI),
    ("Samsung corporation", "Samsung Galaxy", CAMERA),
    ("NIKON CORPORATION", "Nikon Camera", CAMERA),
    ("Canon Inc.", "Canon EOS R1", CAMERA),
    ("SONY Corporation", "SONY Camera", CAMERA),
    ("Leica Camera AG", "Leica M11-P", CAMERA),
]


@pytest.mark.some_cases(4)
@pytest.mark.parametrize(("organisation", "common", "claim"), MAKERS)
def test_a_self_made_chain_in_a_famous_name_is_nobodys_word(
    organisation: str, common: str, claim: tuple[str, FindingCode]
) -> None:
    keys = certificate(organisation, common, authority(organisation, f"{organisation} Root CA"))
    receipt = inspect_bytes(signed(keys, claim[0]))
    (finding,) = receipt.findings
    assert (finding.code, finding.trust, finding.strength) == (claim[1], Trust.UNLISTED, Strength.INDICATES)
    assert finding.facts["signer"] == organisation
    assert receipt.conclusion is not Conclusion.AI_IDENTIFIED
    assert mark(receipt) not in (Corroboration.FOUND_AGAIN, Corroboration.FOUND, Corroboration.CONTRADICTED)
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, report(receipt))
    for locale, item in (("en", "Anybody can make one in any name"), ("zh-CN", "任何人都可以用任何名义制作")):
        assert item in finding_texts.sentence(finding, locale)
    assert "speaks for the person" not in finding_texts.sentence(finding, "en").lower()
    assert finding_texts.limit(claim[1], "en", finding.trust)


@pytest.mark.parametrize(
    "data",
    [
        files.png(files.text_chunk("AIGC", files.LABEL.encode())),
        files.jpeg(files.xmp_segment(files.label_packet())),
        files.jpeg(files.xmp_segment(files.source_packet(MADE))),
        files.png(
            files.text_chunk("parameters", b"cup\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x8")
        ),
    ],
    ids=["label in a text chunk", "label in XMP", "source type in XMP", "parameters"],
)
def test_a_written_label_never_identifies(data: bytes) -> None:
    receipt = inspect_bytes(data)
    assert receipt.conclusion is Conclusion.AI_INDICATED
    assert Strength.IDENTIFIES not in {finding.strength for finding in receipt.findings}
    assert (receipt.trust, mark(receipt)) == (None, Corroboration.INDICATED)
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, report(receipt))


# --- what the library says, judged --------------------------------------------------------------------------------

OFFICIAL = "signing certificate trusted, found in [official] trust anchors"
BEFORE, AFTER = datetime(2025, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)


def signature(*failure: str, anchors: str | None = "official", stamp: str | None = None, **more: Any) -> dict[str, Any]:
    success = [{"code": "claimSignature.validated", "explanation": "claim signature valid"}]
    if anchors is not None:
        why = f"signing certificate trusted, found in [{anchors}] trust anchors"
        success.append({"code": "signingCredential.trusted", "explanation": why})
    if stamp is not None:
        success.append({"code": "timeStamp.trusted", "explanation": f"{stamp}timestamp cert trusted: A stamp"})
    return {
        "claim": "v2",
        "valid_from": "2025-01-01T00:00:00+00:00",
        "valid_to": "2027-01-01T00:00:00+00:00",
        "stamped_at": None if stamp is None else BEFORE.isoformat(),
        "success": success,
        "failure": [{"code": code} for code in failure],
        **more,
    }


SHORT = {"valid_to": "2025-12-31T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("recorded", "trust"),
    [
        (signature(), Trust.LISTED),
        (signature(anchors=None), Trust.UNLISTED),
        (signature("signingCredential.untrusted", anchors=None), Trust.UNLISTED),
        (signature("signingCredential.untrusted"), Trust.UNLISTED),
        (signature(anchors="time-stamps"), Trust.UNLISTED),
        (signature(anchors="system_anchors"), Trust.UNLISTED),
        (signature(anchors="interim"), Trust.UNLISTED),
        (signature(anchors="interim", stamp=""), Trust.INTERIM),
        (signature(anchors="", stamp=""), Trust.INTERIM),
        (signature(anchors="interim", stamp="legacy "), Trust.UNLISTED),
        (signature(anchors="interim", stamp="", claim="v1"), Trust.UNLISTED),
        (signature(anchors="interim", stamp="", stamped_at=AFTER.isoformat()), Trust.UNLISTED),
        (signature(stamp="", **SHORT), Trust.LISTED),
        (signature(stamp="legacy ", **SHORT), Trust.EXPIRED),
        (signature(**SHORT), Trust.EXPIRED),
        (signature(valid_from="2026-12-01T00:00:00+00:00"), Trust.EXPIRED),
        (signature("signingCredential.expired"), Trust.EXPIRED),
        (signature(valid_to="never"), Trust.EXPIRED),
        (signature(valid_to="2027-01-01T00:00:00"), Trust.EXPIRED),
        (signature("signingCredential.invalid"), Trust.INVALID),
        (signature("claimSignature.mismatch"), Trust.INVALID),
        ({}, Trust.INVALID),
        (signature("signingCredential.ocsp.revoked"), Trust.REVOKED),
        (signature("signingCredential.revoked", "signingCredential.invalid"), Trust.REVOKED),
    ],
)
def test_what_the_library_says_is_judged(recorded: dict[str, Any], trust: Trust) -> None:
    assert trust_of(recorded, shipped(), Times(AFTER, AFTER)) is trust


def test_a_revoked_certificate_of_a_listed_maker_is_told_and_identifies_nothing() -> None:
    from tests.evidence.test_c2pa import GOOD, judged, store

    results, noted = judged(
        store(["signingCredential.ocsp.revoked"], GOOD), {"a": signature("signingCredential.ocsp.revoked")}
    )
    (finding,) = results
    assert (finding.trust, finding.strength) == (Trust.REVOKED, Strength.INDICATES)
    assert "was revoked by its issuer" in finding_texts.sentence(finding, "en")
    assert noted == ["c2pa_credential_refused signingCredential.ocsp.revoked"]


_results = st.lists(
    st.fixed_dictionaries(
        {
            "code": st.sampled_from(
                [
                    "claimSignature.validated",
                    "signingCredential.trusted",
                    "signingCredential.untrusted",
                    "timeStamp.trusted",
                ]
            ),
            "explanation": st.sampled_from([OFFICIAL, OFFICIAL.upper(), "", "found in [official]"])
            | st.text(max_size=20),
        }
    )
    | st.none()
    | st.integers(),
    max_size=5,
)


@settings(max_examples=trials(24, 40))
@given(
    st.fixed_dictionaries(
        {
            "claim": st.sampled_from(["v1", "v2", None]),
            "valid_from": st.text(max_size=5) | st.just("2025-01-01T00:00:00+00:00") | st.none(),
            "valid_to": st.text(max_size=5) | st.just("2027-01-01T00:00:00+00:00") | st.integers(),
            "stamped_at": st.none() | st.just(BEFORE.isoformat()),
            "success": _results,
            "failure": _results | st.none() | st.text(max_size=3),
        }
    )
)
def test_nothing_but_the_very_words_of_the_library_makes_a_signer_trusted(recorded: dict[str, Any]) -> None:
    trust = trust_of(recorded, shipped(), Times(AFTER, AFTER))
    if trust in TRUSTED:
        codes = {item["code"]: item["explanation"] for item in recorded["success"] if isinstance(item, dict)}
        assert codes["signingCredential.trusted"] == OFFICIAL
        assert "claimSignature.validated" in codes


def test_an_ancestor_is_as_good_as_its_recorder_where_nothing_is_objected() -> None:
    recorded = {"success": signature()["success"], "failure": []}
    silent = {**signature(anchors=None), "success": []}
    times = Times(AFTER, AFTER)
    assert recorded_trust(silent, recorded, Trust.LISTED, shipped(), times) is Trust.LISTED
    assert recorded_trust(silent, recorded, Trust.UNLISTED, shipped(), times) is not Trust.LISTED
    objected = {**silent, "failure": [{"code": "signingCredential.untrusted"}]}
    assert recorded_trust(objected, recorded, Trust.LISTED, shipped(), times) is Trust.UNLISTED
    nothing = {"success": signature(anchors=None)["success"], "failure": [{"code": "signingCredential.untrusted"}]}
    assert recorded_trust(silent, nothing, Trust.LISTED, shipped(), times) is Trust.UNLISTED
    assert recorded_trust(silent, {}, Trust.LISTED, shipped(), times) is Trust.UNLISTED


# --- the shipped lists ----------------------------------------------------------------------------------------


def test_the_shipped_lists_are_what_their_page_says() -> None:
    said = json.loads((signers.SHIPPED_FOLDER / "lists.json").read_text("utf-8"))
    page = (signers.SHIPPED_FOLDER / "README.md").read_text("utf-8")
    docs = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text("utf-8")
    numbers = {"official_signers": 30, "official_time_stamps": 22, "interim_anchors": 27, "interim_allowed": 117}
    for name, number in numbers.items():
        file = signers.SHIPPED_FOLDER / said[name]["file"]
        assert len(x509.load_pem_x509_certificates(file.read_bytes())) == number
        (row,) = [line for line in page.splitlines() if f"`{file.name}`" in line]
        assert f" {number} " in row
        assert f"| {said[name]['state']} |" in row
    lists = shipped()
    assert lists.interim_ends_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert f"{lists.interim_ends_at:%Y-%m-%d}" in docs
    assert lists.state in docs


def test_a_folder_without_lists_is_no_lists(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read_trust_lists(tmp_path)
    folder_lists = trust_lists(tmp_path / "made")
    (folder_lists.folder / "interim_allowed.crt").unlink()
    with pytest.raises(ConfigurationError):
        read_trust_lists(folder_lists.folder)
    (folder_lists.folder / "lists.json").write_text("[]", "utf-8")
    with pytest.raises(ConfigurationError):
        read_trust_lists(folder_lists.folder)


def test_under_a_broken_list_nothing_is_trusted(listed: Keys, lists: TrustLists, tmp_path: Path) -> None:
    """The library refuses it, and so the manifest counts for nothing: it is not read, and the receipt is incomplete."""
    broken = replace(lists, folder=tmp_path)
    for file in lists.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "official_signers.crt").write_text("-----BEGIN CERTIFICATE-----\n!!\n", encoding="ascii")
    receipt = inspect_bytes(signed(listed), trust_lists=broken)
    assert receipt.trust not in TRUSTED
    assert receipt.conclusion is not Conclusion.AI_IDENTIFIED
