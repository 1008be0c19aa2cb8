"""The inspection of one file: read it, ask every part, and write the receipt. Nothing leaves the machine."""

from __future__ import annotations

import hashlib
import importlib.util
import stat
from pathlib import Path

from ledger import __version__
from ledger.core.findings import Strength
from ledger.errors import ConfigurationError, EvidenceTooLarge, EvidenceUnreadable
from ledger.evidence import aigc, c2pa_claims, c2pa_reader, containers, editing, exif, thumbnails, traces, xmp
from ledger.evidence.findings import Finding, folded
from ledger.evidence.limits import MAX_FILE_BYTES, MAX_FINDINGS
from ledger.evidence.pieces import Contents, NoteCode, Sort, decode
from ledger.evidence.receipt import Agreement, Receipt, check_form, compare

RULES_VERSION = 1
"""Goes up with every change that may give the same file other findings."""

TOOL = f"refund-ledger/{__version__} inspect/{RULES_VERSION}"
EXTRA = "refund-credit-ledger[evidence]"
_NEEDED = ("PIL", "c2pa")


def inspect_file(path: str | Path) -> Receipt:
    """What the file at `path` says about its origin.

    Raises EvidenceUnreadable, EvidenceTooLarge, EvidenceFormatUnknown, EvidenceMalformed, and ConfigurationError where
    the extra `evidence` is not installed.
    """
    path = Path(path)
    return inspect_bytes(_read(path), path.name)


def inspect_bytes(data: bytes, file_name: str | None = None) -> Receipt:
    """The same for bytes; `file_name` is only compared with the type. Raises what `inspect_file` raises."""
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"Inspecting needs the extra: pip install '{EXTRA}' (missing: {', '.join(missing)}).", extra="evidence"
        )
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(len(data))
    found = containers.read(data, file_name)
    findings, sdk = _findings(data, found)
    if not found.pieces:
        found.note(NoteCode.NO_METADATA)
    if len(findings) > MAX_FINDINGS:
        found.note(NoteCode.LIMIT_REACHED, "findings")
    return Receipt(
        TOOL,
        hashlib.sha256(data).digest(),
        len(data),
        found.media_type,
        found.width_px,
        found.height_px,
        tuple(findings[:MAX_FINDINGS]),
        tuple(found.notes),
        sdk,
    )


def verify_file(path: str | Path, receipt: object) -> Agreement:
    """Whether the file at `path` bears a receipt (its JSON values) out. Raises InspectionReceiptInvalid, and what
    `inspect_file` raises."""
    claimed = check_form(receipt)
    return compare(claimed, inspect_file(path))


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise EvidenceUnreadable("Only a regular file can be inspected.")
        if status.st_size > MAX_FILE_BYTES:
            raise _too_large(status.st_size)
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise EvidenceUnreadable("The file is not there, or may not be read.") from error
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(len(data))
    return data


def _too_large(size_bytes: int) -> EvidenceTooLarge:
    return EvidenceTooLarge(f"A file of at most {MAX_FILE_BYTES} bytes can be inspected.", size_bytes=size_bytes)


def _findings(data: bytes, found: Contents) -> tuple[list[Finding], str]:
    """All findings, the strongest first, and the version of the C2PA library if it was asked."""
    packets = [xmp.parse(piece.data, piece.where, found) for piece in found.of(Sort.XMP)]
    exifs = [(piece.where, exif.parse(piece.data, piece.where, found)) for piece in found.of(Sort.EXIF)]
    packets += [xmp.parse(one.xmp, f"{where} tag 700", found) for where, one in exifs if one.xmp]
    findings = _labels(found, packets, exifs)
    answer = c2pa_reader.ask(data, found)
    if answer is not None:
        findings += c2pa_claims.judge(answer, found)
    for packet in packets:
        findings += traces.in_xmp(packet)
    for where, one in exifs:
        findings += traces.in_exif(one, where)
    findings += traces.in_texts(found.of(Sort.TEXT))
    findings += editing.judge(found, exifs, packets)
    for where, one in exifs[:1]:
        findings += thumbnails.judge(data, found, one, where)
    order = list(Strength)
    unique = list({(one.code, one.where, repr(one.facts)): one for one in findings}.values())
    return sorted(unique, key=lambda one: order.index(one.strength)), answer.sdk if answer else ""


def _labels(found: Contents, packets: list[xmp.Xmp], exifs: list[tuple[str, exif.Exif]]) -> list[Finding]:
    """The AIGC record, from each of its places."""
    texts = [(f"{piece.where} {piece.key}", decode(piece.data), _is_label(piece.key)) for piece in found.of(Sort.TEXT)]
    texts += [(f"{where} UserComment", one.comment, False) for where, one in exifs]
    for tag in ("ImageDescription", "XPComment"):
        texts += [(f"{where} {tag}", one.texts.get(tag, ""), False) for where, one in exifs]
    texts += [(piece.where, decode(piece.data), False) for piece in found.of(Sort.SEGMENT)]
    records: list[aigc.Record] = []
    for packet in packets:
        records += aigc.from_xmp(packet)
    for where, text, is_label in texts:
        records += aigc.from_text(text, where, is_label)
    label_texts = [(where, text) for where, text, is_label in texts if is_label]
    return aigc.judge(records, found) + aigc.emptied(packets, label_texts, records)


def _is_label(key: str) -> bool:
    return folded(key).rpartition(".")[2] == "aigc" or folded(key) == "aigc"
