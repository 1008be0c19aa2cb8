"""The inspection of one file: read it, ask every part, and write the receipt. Nothing leaves the machine."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import __version__
from ledger.errors import (
    EvidenceTooLarge,
    EvidenceUnreadable,
    InspectionInvalid,
    InvalidRequest,
    ListingUnreadable,
    PictureUnreadable,
)
from ledger.evidence.findings import InspectionFinding, folded
from ledger.evidence.formats import containers, exif, xmp
from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile, decode
from ledger.evidence.limits import MAX_FILE_BYTES, MAX_FINDINGS, MAX_LISTINGS
from ledger.evidence.perceptual_hash import pdq
from ledger.evidence.perceptual_hash.pixels import STILLS, WHERE
from ledger.evidence.receipt import InspectionReceipt, ReceiptAgreement, check_form, compare
from ledger.evidence.sandbox import c2pa as c2pa_reader
from ledger.evidence.sandbox.c2pa import C2paAnswer
from ledger.evidence.signals import aigc, c2pa_claims, editing, signers, thumbnails, traces
from ledger.evidence.signals.signers import Times, TrustLists
from ledger.extras import need
from ledger.protocol.encoding import b64url
from ledger.rules.findings import Strength

if TYPE_CHECKING:
    from ledger.evidence.listing.match import Photo

RULES_VERSION = 2
"""Goes up with every change that may give the same file other findings."""

TOOL = f"refund-ledger/{__version__} inspect/{RULES_VERSION}"
_NEEDED = ("PIL", "c2pa")
_NEEDED_TO_COMPARE = (*_NEEDED, "cv2")


def inspect_file(
    path: str | Path,
    listing: Sequence[str | Path] = (),
    *,
    received_at: datetime | None = None,
    trust_lists: TrustLists | None = None,
) -> InspectionReceipt:
    """Return what the file at `path` says about its origin, and whether it was made from one of the listing photos.

    `received_at` (aware) is when the platform received it, now if it does not say; `trust_lists` are the lists under
    which a signature counts, the shipped ones if none are given.

    Raises EvidenceUnreadable, EvidenceTooLarge, EvidenceFormatUnknown, EvidenceMalformed, ListingUnreadable,
    InvalidRequest (more than `MAX_LISTINGS`), and ConfigurationError where the extra `evidence` is not installed.
    """
    path = Path(path)
    listings = read_listings(listing)
    return inspect_bytes(_read(path), path.name, listings, received_at=received_at, trust_lists=trust_lists)


def inspect_bytes(
    data: bytes,
    file_name: str | None = None,
    listings: Sequence[Photo] = (),
    *,
    received_at: datetime | None = None,
    trust_lists: TrustLists | None = None,
) -> InspectionReceipt:
    """Return the same for bytes; `file_name` is only compared with the type. Raises what `inspect_file` raises."""
    need("evidence", _NEEDED, "Inspecting")
    lists, times = trust_lists or signers.shipped(), Times.of(datetime.now(UTC), received_at)
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(len(data))
    parsed = containers.read(data, file_name)
    with c2pa_reader.asked(data, parsed, trust_folder=lists.folder) as manifests:
        hashed = _hash(data, parsed)
        findings, sdk = _findings(data, parsed, manifests, lists, times)
    if not parsed.blocks:
        parsed.note(NoteCode.NO_METADATA)
    findings = _strongest_first(findings + _compared(data, parsed, listings))
    if len(findings) > MAX_FINDINGS:
        parsed.note(NoteCode.LIMIT_REACHED, "findings")
    return InspectionReceipt(
        TOOL,
        hashlib.sha256(data).digest(),
        len(data),
        parsed.media_type,
        parsed.width_px,
        parsed.height_px,
        tuple(findings[:MAX_FINDINGS]),
        tuple(parsed.notes),
        sdk,
        hashed.hex if hashed else "",
        hashed.quality if hashed else 0,
        tuple(sorted({listing.sha256 for listing in listings}, key=b64url)),
        _opencv() if listings else "",
        lists.state,
    )


def verify_file(
    path: str | Path,
    receipt: object,
    listing: Sequence[str | Path] = (),
    *,
    received_at: datetime | None = None,
    trust_lists: TrustLists | None = None,
) -> ReceiptAgreement:
    """Inspect the file at `path` again and compare the result with a receipt (its JSON values).

    Give the same listing photos, trust lists and time of receipt as before.

    Raises InspectionReceiptInvalid, and what `inspect_file` raises.
    """
    claimed = check_form(receipt)
    return compare(claimed, inspect_file(path, listing, received_at=received_at, trust_lists=trust_lists))


def draw_match(path: str | Path, listing: str | Path) -> bytes | None:
    """Return a picture (PNG) of how the file at `path` was made from a listing photo; None if it was not.

    Raises EvidenceUnreadable, EvidenceTooLarge, PictureUnreadable, ListingUnreadable, ConfigurationError.
    """
    (theirs,) = read_listings([listing])
    from ledger.evidence.listing import match_drawing
    from ledger.evidence.listing.match import matches, photo

    ours = photo(_read(Path(path)))
    (match,) = matches(ours, [theirs])
    return match_drawing.draw(ours, theirs, match) if match is not None else None


def read_listings(paths: Sequence[str | Path]) -> list[Photo]:
    """Return listing photos, decoded for comparison. OpenCV is loaded if there are any. Raises ListingUnreadable, which
    names the file, InvalidRequest for too many, and ConfigurationError."""
    if not paths:
        return []
    if len(paths) > MAX_LISTINGS:
        raise InvalidRequest(f"At most {MAX_LISTINGS} listing photos can be compared at once.")
    need("evidence", _NEEDED_TO_COMPARE, "Comparing with a listing photo")
    return [_listing(Path(path)) for path in paths]


def _listing(path: Path) -> Photo:
    from ledger.evidence.listing.match import photo

    try:
        data = _read(path)
        if containers.media_type(data) not in STILLS:
            raise PictureUnreadable("Only JPEG, PNG and WebP can be compared.")
        return photo(data)
    except (InspectionInvalid, PictureUnreadable) as error:
        raise ListingUnreadable(f"{path.name}: {error}", file=path.name, reason=error.code) from error


def _hash(data: bytes, parsed: ParsedFile) -> pdq.Pdq | None:
    """Return the PDQ hash of a still picture; a note says if there is none, or if it says too little."""
    if parsed.media_type not in STILLS:
        return None
    try:
        pdq_hash = pdq.hash_bytes(data)
    except PictureUnreadable as error:
        parsed.note(NoteCode.PICTURE_NOT_HASHED, WHERE, str(error))
        return None
    if not pdq_hash.usable:
        parsed.note(NoteCode.PICTURE_UNFIT, WHERE, f"quality {pdq_hash.quality}")
    return pdq_hash


def _compared(data: bytes, parsed: ParsedFile, listings: Sequence[Photo]) -> list[InspectionFinding]:
    """Return the findings of the comparison with listing photos."""
    if not listings:
        return []
    from ledger.evidence.listing.match import judge, photo

    if parsed.media_type not in STILLS:
        parsed.note(NoteCode.LISTING_NOT_COMPARED, WHERE, parsed.media_type)
        return []
    try:
        claim = photo(data)
    except PictureUnreadable as error:
        parsed.note(NoteCode.LISTING_NOT_COMPARED, WHERE, str(error))
        return []
    return judge(claim, list({listing.sha256: listing for listing in listings}.values()))


def _opencv() -> str:
    from ledger.evidence.listing.match import OPENCV

    return OPENCV


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


def _findings(
    data: bytes, parsed: ParsedFile, manifests: Callable[[], C2paAnswer | None], lists: TrustLists, times: Times
) -> tuple[list[InspectionFinding], str]:
    """Return all findings in what the file says, and the version of the C2PA library if it was asked."""
    packets = [xmp.parse(block.data, block.where, parsed) for block in parsed.of(BlockType.XMP)]
    exifs = [(block.where, exif.parse(block.data, block.where, parsed)) for block in parsed.of(BlockType.EXIF)]
    packets += [xmp.parse(tags.xmp, f"{where} tag 700", parsed) for where, tags in exifs if tags.xmp]
    findings = _labels(parsed, packets, exifs)
    for packet in packets:
        findings += traces.in_xmp(packet)
    for where, tags in exifs:
        findings += traces.in_exif(tags, where)
    findings += traces.in_texts(parsed.of(BlockType.TEXT))
    findings += editing.judge(parsed, exifs, packets)
    for where, tags in exifs[:1]:
        findings += thumbnails.judge(data, parsed, tags, where)
    answer = manifests()
    if answer is not None:
        findings += c2pa_claims.judge(answer, parsed, lists, times)
    unique = list({(finding.code, finding.where, repr(finding.facts)): finding for finding in findings}.values())
    return unique, answer.sdk if answer else ""


def _strongest_first(findings: list[InspectionFinding]) -> list[InspectionFinding]:
    order = list(Strength)
    return sorted(findings, key=lambda finding: order.index(finding.strength))


def _labels(parsed: ParsedFile, packets: list[xmp.Xmp], exifs: list[tuple[str, exif.Exif]]) -> list[InspectionFinding]:
    """Return the AIGC record, from each of its places."""
    texts = [
        (f"{block.where} {block.key}", decode(block.data), _is_label(block.key)) for block in parsed.of(BlockType.TEXT)
    ]
    texts += [(f"{where} UserComment", tags.comment, False) for where, tags in exifs]
    for tag in ("ImageDescription", "XPComment"):
        texts += [(f"{where} {tag}", tags.texts.get(tag, ""), False) for where, tags in exifs]
    texts += [(block.where, decode(block.data), False) for block in parsed.of(BlockType.SEGMENT)]
    records: list[aigc.AigcRecord] = []
    for packet in packets:
        records += aigc.from_xmp(packet)
    for where, text, is_label in texts:
        records += aigc.from_text(text, where, is_label)
    label_texts = [(where, text) for where, text, is_label in texts if is_label]
    return aigc.judge(records, parsed) + aigc.emptied(packets, label_texts, records)


def _is_label(key: str) -> bool:
    return folded(key).rpartition(".")[2] == "aigc" or folded(key) == "aigc"
