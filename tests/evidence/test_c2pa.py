"""C2PA: what manifests say, whether they are bound to the bytes, and that a certificate's fate is no finding."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.evidence.findings import InspectionFinding
from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import Conclusion, InspectionReceipt
from ledger.evidence.sandbox import c2pa as c2pa_reader
from ledger.evidence.sandbox.c2pa import C2paAnswer
from ledger.evidence.signals import c2pa_claims
from ledger.evidence.signals.signers import Times, shipped
from ledger.rules.findings import FindingCode, Strength, Trust
from tests.evidence import files
from tests.evidence.signed import Keys, certificate, created, sign, using
from tests.support import ROOT

MADE = "trainedAlgorithmicMedia"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
C = FindingCode


@pytest.fixture(scope="module")
def keys() -> Keys:
    return certificate()


def codes(receipt: InspectionReceipt) -> list[FindingCode]:
    return [finding.code for finding in receipt.findings]


def notes(receipt: InspectionReceipt) -> list[NoteCode]:
    return [note.code for note in receipt.notes]


@pytest.mark.parametrize(
    ("media_type", "data", "match"),
    [
        ("image/png", files.png(), "assertion.dataHash.match"),
        ("image/jpeg", files.jpeg(), "assertion.dataHash.match"),
        ("image/webp", files.webp(), "assertion.dataHash.match"),
        ("image/heic", files.heic(files.exif(), files.plain_packet()), "assertion.bmffHash.match"),
        ("video/mp4", files.mp4(), "assertion.bmffHash.match"),
    ],
)
def test_a_bound_manifest_indicates_whoever_signed(media_type: str, data: bytes, match: str, keys: Keys) -> None:
    receipt = inspect_bytes(sign(data, media_type, [created(MADE)], thumbnail=media_type == "image/jpeg", **keys))
    (finding,) = receipt.findings
    assert finding.code is C.C2PA_AI_GENERATED
    assert (finding.strength, finding.trust) == (Strength.INDICATES, Trust.UNLISTED)
    assert finding.facts["validation"] == [match, "claimSignature.validated"]
    assert (finding.facts["signer"], finding.facts["software"]) == ("Tests", "Test model")
    (note,) = receipt.notes
    assert (note.code, note.detail) == (NoteCode.C2PA_CREDENTIAL, "signingCredential.untrusted")
    assert receipt.complete


def test_one_changed_pixel_is_a_finding_of_its_own_and_the_label_no_longer_identifies(keys: Keys) -> None:
    data = sign(files.png(), "image/png", [created(MADE)], **keys)
    at = data.rindex(b"IDAT") + 20
    receipt = inspect_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert codes(receipt) == [C.C2PA_HASH_MISMATCH, C.C2PA_AI_GENERATED_UNBOUND]
    assert receipt.findings[0].facts["validation"] == ["assertion.dataHash.mismatch"]
    assert receipt.conclusion is Conclusion.AI_INDICATED


def test_a_manifest_moved_to_another_picture_does_not_identify_it(keys: Keys) -> None:
    data = sign(files.png(), "image/png", [created(MADE)], **keys)
    start = data.index(b"caBX") - 4
    stolen = data[start : start + 12 + int.from_bytes(data[start : start + 4])]
    receipt = inspect_bytes(files.png(stolen, image=files.picture(seed=3)))
    assert codes(receipt) == [C.C2PA_HASH_MISMATCH, C.C2PA_AI_GENERATED_UNBOUND]


def test_a_changed_claim_is_not_relied_on(keys: Keys) -> None:
    data = sign(files.png(), "image/png", [created("digitalCapture", "Honest camera")], **keys)
    changed = data.replace(b"Honest camera", b"Honest camerb")
    receipt = inspect_bytes(changed)
    assert C.C2PA_SIGNATURE_INVALID in codes(receipt)
    assert C.C2PA_CAPTURED not in codes(receipt)
    assert NoteCode.CHECKSUM_WRONG not in notes(receipt)


def test_the_origin_is_followed_through_parents(keys: Keys) -> None:
    parent = sign(files.png(), "image/png", [created(MADE)], **keys)
    data = sign(files.png(), "image/png", [using("c2pa.opened", "parentOf")], parent=parent, **keys)
    (finding,) = inspect_bytes(data).findings
    assert (finding.code, finding.facts["depth"]) == (C.C2PA_AI_GENERATED, 1)


def test_a_part_made_by_ai_does_not_make_the_whole(keys: Keys) -> None:
    part = sign(files.png(), "image/png", [created(MADE)], **keys)
    actions = [created("digitalCapture"), using("c2pa.placed", "componentOf")]
    receipt = inspect_bytes(sign(files.png(), "image/png", actions, component=part, **keys))
    assert codes(receipt) == [C.C2PA_AI_EDITED]
    assert receipt.conclusion is Conclusion.AI_INDICATED


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (COMPOSITE, [C.C2PA_AI_EDITED]),
        ("digitalCapture", [C.C2PA_CAPTURED]),
        ("computationalCapture", [C.C2PA_CAPTURED]),
        ("digitalArt", []),
    ],
)
def test_other_source_types(source: str, expected: list[FindingCode], keys: Keys) -> None:
    receipt = inspect_bytes(sign(files.jpeg(), "image/jpeg", [created(source)], **keys))
    assert codes(receipt) == expected
    assert (NoteCode.C2PA_NO_SOURCE in notes(receipt)) == (not expected)


def test_garbage_in_a_manifest_is_a_note() -> None:
    receipt = inspect_bytes(files.png(files.chunk(b"caBX", b"\0\0\0\x10jumbgarbage!")))
    assert codes(receipt) == []
    assert notes(receipt) == [NoteCode.C2PA_UNREADABLE]
    assert not receipt.complete


def test_a_manifest_store_that_is_too_large_is_not_read() -> None:
    parsed = ParsedFile("image/png", manifest_bytes=2**30)
    parsed.add(BlockType.C2PA, "png:caBX")
    assert c2pa_reader.ask(b"", parsed) is None
    assert [note.code for note in parsed.notes] == [NoteCode.C2PA_NOT_READ]


def test_a_reader_that_takes_too_long_is_stopped(keys: Keys) -> None:
    parsed = ParsedFile("image/png")
    parsed.add(BlockType.C2PA, "png:caBX")
    assert c2pa_reader.ask(files.png(), parsed, seconds=0.001) is None
    assert [note.detail for note in parsed.notes] == ["out of time"]


@pytest.mark.enable_socket
def test_nothing_is_fetched_from_the_network(keys: Keys) -> None:
    """A manifest that is said to lie on a server of this machine: the server is never called, though the library, left
    to itself, would ask it."""
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                server.accept()[0].close()
            except OSError:
                return
            called.set()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        data = sign(files.jpeg(), "image/jpeg", [created(MADE)], remote_url=url, **keys)
        receipt = inspect_bytes(data)
        parsed = ParsedFile("image/jpeg")
        parsed.add(BlockType.C2PA, "as if there were one")
        assert c2pa_reader.ask(data, parsed) is None
        server.shutdown(socket.SHUT_RDWR)  # a call that came before is accepted first, and the wait for one ends
        thread.join()
    assert not called.is_set()
    assert [note.code for note in parsed.notes] == [NoteCode.C2PA_UNREADABLE]
    assert notes(receipt) == [NoteCode.C2PA_REMOTE]
    assert not receipt.complete
    assert receipt.conclusion is Conclusion.NOTHING_FOUND


def test_a_reference_to_a_manifest_that_is_gone_is_a_hint() -> None:
    content = files.plain_packet(
        attributes='xmlns:d="http://purl.org/dc/terms/" d:provenance="self#jumbf=/c2pa/urn:uuid:1"'
    )
    receipt = inspect_bytes(files.jpeg(files.xmp_segment(content)))
    assert codes(receipt) == [C.C2PA_MANIFEST_MISSING]


NOW = datetime(2026, 11, 1, tzinfo=UTC)


def judged(
    store: dict[str, Any], signatures: dict[str, Any] | None = None
) -> tuple[list[InspectionFinding], list[str]]:
    parsed = ParsedFile("image/png")
    results = c2pa_claims.judge(C2paAnswer(store, "here", "1", signatures or {}), parsed, shipped(), Times(NOW, NOW))
    return results, [f"{note.code.value} {note.detail}".strip() for note in parsed.notes]


def store(failures: list[str], success: list[str], **manifest: Any) -> dict[str, Any]:
    actions = {"label": "c2pa.actions", "data": {"actions": [created(MADE)]}}
    return {
        "active_manifest": "a",
        "manifests": {"a": {"assertions": [actions], **manifest}},
        "validation_results": {
            "activeManifest": {
                "success": [{"code": code} for code in success],
                "failure": [{"code": code} for code in failures],
            }
        },
    }


GOOD = ["claimSignature.validated", "assertion.dataHash.match"]


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        ("signingCredential.expired", "c2pa_credential"),
        ("signingCredential.untrusted", "c2pa_credential"),
        ("timeStamp.mismatch", "c2pa_credential"),
        ("claimSignature.outsideValidity", "c2pa_credential"),
        ("signingCredential.invalid", "c2pa_credential_refused"),
        ("signingCredential.ocsp.revoked", "c2pa_credential_refused"),
        ("cawg.x509.credential.untrusted", "c2pa_identity"),
        ("cawg.ica.invalid_issuer", "c2pa_identity"),
        ("cawg.identity.pad.invalid", "c2pa_identity"),
    ],
)
def test_what_befalls_a_certificate_or_an_identity_is_no_damage_of_the_manifest(failure: str, note: str) -> None:
    results, codes_noted = judged(store([failure], GOOD))
    assert [result.code for result in results] == [C.C2PA_AI_GENERATED]
    assert codes_noted == [f"{note} {failure}"]


@pytest.mark.parametrize(
    ("failures", "success", "expected"),
    [
        (["claimSignature.mismatch"], GOOD[1:], [C.C2PA_SIGNATURE_INVALID, C.C2PA_AI_GENERATED_UNBOUND]),
        ([], GOOD[:1], [C.C2PA_AI_GENERATED_UNBOUND]),
        ([], ["claimSignature.validated", "assertion.bmffHash.match"], [C.C2PA_AI_GENERATED]),
        (["assertion.bmffHash.mismatch"], GOOD[:1], [C.C2PA_HASH_MISMATCH, C.C2PA_AI_GENERATED_UNBOUND]),
    ],
)
def test_binding_takes_signature_and_hash(failures: list[str], success: list[str], expected: list[FindingCode]) -> None:
    results, _ = judged(store(failures, success))
    assert [result.code for result in results] == expected


def test_faults_of_an_ancestor_unbind_what_it_says() -> None:
    parent = store([], [])["manifests"]["a"]
    child = {"relationship": "parentOf", "active_manifest": "b"}
    whole = store([], GOOD, assertions=[], ingredients=[child])
    whole["manifests"]["b"] = parent
    assert [item.code for item in judged(whole)[0]] == [C.C2PA_AI_GENERATED]
    child["validation_results"] = {"activeManifest": {"failure": [{"code": "assertion.dataHash.mismatch"}]}}  # type: ignore[assignment]
    assert [item.code for item in judged(whole)[0]] == [C.C2PA_AI_GENERATED_UNBOUND]
    del child["validation_results"]
    delta = {"validationDeltas": {"failure": [{"code": "claimSignature.mismatch"}]}}
    whole["validation_results"]["ingredientDeltas"] = [delta]
    assert [item.code for item in judged(whole)[0]] == [C.C2PA_AI_GENERATED_UNBOUND]


def test_a_chain_of_parents_that_bites_its_tail_ends() -> None:
    ring = store([], GOOD, assertions=[], ingredients=[{"relationship": "parentOf", "active_manifest": "a"}])
    assert judged(ring) == ([], ["c2pa_no_source"])


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"active_manifest": "a", "manifests": []},
        {"active_manifest": ["a"], "manifests": {"a": 1}, "validation_results": 7},
        {"active_manifest": "a", "manifests": {"a": {"assertions": [1, {"label": 2, "data": []}], "ingredients": {}}}},
        {"manifests": {"None": {"claim_generator_info": ["x"], "signature_info": "y"}}},
    ],
)
def test_any_json_is_taken(odd: dict[str, Any]) -> None:
    results, codes_noted = judged(odd)
    assert results == []
    assert codes_noted[0].startswith("c2pa_no_source")


def test_the_process_that_reads_manifests_can_open_nothing() -> None:
    code = (
        "import socket, sys\n"
        "from ledger.evidence.sandbox.c2pa_worker import _give_up\n"
        "_give_up(2**31, 5)\n"
        "for attempt in (lambda: open(sys.executable), lambda: socket.socket()):\n"
        "    try:\n"
        "        attempt()\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == [str(errno.EMFILE)] * 2
