"""China's label for content made by AI: the AIGC record of GB 45438-2025, annex E, in any place of a file.

Reading is tolerant, and judging is a separate step: writers differ (JSON or nearly JSON, wrapped or not, XMP text,
attribute or structure, numbers for texts), and a defective label is still a label. `problems` lists what is wrong with
a record; only a record without problems counts as the statement of the standard.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ledger.evidence.findings import InspectionFinding, finding
from ledger.evidence.formats import xmp
from ledger.evidence.formats.metadata import NoteCode, ParsedFile
from ledger.evidence.limits import MAX_RECORD_CHARS, MAX_RECORDS
from ledger.evidence.signals import credit_code
from ledger.rules.findings import FindingCode

FIELDS = (
    "Label",
    "ContentProducer",
    "ProduceID",
    "ReservedCode1",
    "ContentPropagator",
    "PropagateID",
    "ReservedCode2",
)
MAX_FIELD_CHARS = 1_024
_CREDIT_CODE = slice(4, 22)
"""The position of the credit code in a producer's code whose fourth character is 1. The five characters after it
distinguish services of one company; they differ among real labels of one company, so they are not used."""

KNOWN_PRODUCERS = {
    "91110102MACQD9K640": "Doubao / 豆包",
    "91440300708461136T": "Tencent / 腾讯",
}
"""Companies by credit code, under the name they are best known by, where their labels are known from content that came
from them. Services of one company share its code, so another of its services may have made the content."""

_DECODER = json.JSONDecoder()
_BY_LOWER = {name.lower(): name for name in FIELDS}
_PRODUCER_CODE = re.compile(r"[0-9A-Z]{27}\Z")
_LOOSE = re.compile(
    r"""["']?\b(Label|ContentProducer|ProduceID|ReservedCode1|ContentPropagator|PropagateID|ReservedCode2)\b["']?
        \s{0,8}[:=]\s{0,8}(?:"([^"]{0,4096})"|'([^']{0,4096})'|([\w.-]{1,200}))""",
    re.VERBOSE | re.IGNORECASE,
)
_NOTHING = "\0 \t\r\n{}"
_MARKS = re.compile(r"AIGC|ContentProducer|ProduceID", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AigcRecord:
    """One label as it was read: its place, its fields, and whether it was JSON."""

    where: str
    fields: dict[str, str]
    is_json: bool

    def get(self, name: str) -> str:
        """Return a field's value, empty where it is missing."""
        return self.fields.get(name, "")

    @property
    def statement(self) -> tuple[str, str, str]:
        """The members on which two copies of one label must agree."""
        return self.get("Label"), self.get("ContentProducer"), self.get("ProduceID")


def parse_record(text: str, where: str) -> AigcRecord | None:
    """Return the record in a text, or None if there is none in it."""
    text = text[:MAX_RECORD_CHARS].strip("\0 \t\r\n\ufeff")
    if "&quot;" in text or "&#34;" in text:
        text = html.unescape(text)
    fields = _from_json(text)
    if fields:
        return AigcRecord(where, fields, True)
    loose: dict[str, str] = {}
    for match in _LOOSE.finditer(text):
        loose.setdefault(_BY_LOWER[match[1].lower()], match[2] or match[3] or match[4] or "")
    return AigcRecord(where, loose, False) if loose.keys() & {"Label", "ContentProducer", "ProduceID"} else None


def _from_json(text: str) -> dict[str, str] | None:
    start = text.find("{")
    try:
        # From the first brace: application segments have a name before the record.
        value: Any = _DECODER.raw_decode(text, start)[0] if start >= 0 else None
        if isinstance(value, dict):
            wrapped = next((item for key, item in value.items() if key.upper() == "AIGC"), value)
            value = json.loads(wrapped) if isinstance(wrapped, str) else wrapped
    except (ValueError, RecursionError):
        return None
    return _wanted(value.items()) if isinstance(value, dict) else None


def _wanted(pairs: Iterable[tuple[Any, Any]]) -> dict[str, str] | None:
    fields = {
        _BY_LOWER[str(key).lower()]: value if isinstance(value, str) else str(value)
        for key, value in pairs
        if str(key).lower() in _BY_LOWER and isinstance(value, str | int) and not isinstance(value, bool)
    }
    return fields if fields.keys() & {"Label", "ContentProducer", "ProduceID"} else None


def from_text(text: str, where: str, is_label: bool) -> Iterator[AigcRecord]:
    """Yield the record in a text that should be one (`is_label`), or may contain one."""
    if is_label or _MARKS.search(text, 0, MAX_RECORD_CHARS):
        record = parse_record(text, where)
        if record is None and is_label and text.strip(_NOTHING):
            record = AigcRecord(where, {"Label": text.strip(_NOTHING)[:100]}, False)  # a label that cannot be read
        if record is not None:
            yield record


def from_xmp(packet: xmp.Xmp) -> Iterator[AigcRecord]:
    """Yield the records in a packet: as the text of a property, as a structure, or in a packet that is not
    well-formed."""
    where = f"{packet.where} xmp"
    loose = _wanted((prop.name, prop.value) for prop in packet.properties if prop.namespace == xmp.AIGC)
    if loose:
        yield AigcRecord(where, loose, True)
    texts = [prop.value for prop in packet.properties if prop.name.upper() == "AIGC"]
    for text in texts:
        yield from from_text(text, where, is_label=True)
    if not loose and not texts and xmp.AIGC.encode() in packet.raw:
        record = parse_record(html.unescape(packet.raw.decode("utf-8", "replace")), where)
        if record is not None:
            yield AigcRecord(where, record.fields, False)


def problems(record: AigcRecord) -> list[str]:
    """Return the reasons why a record does not follow the standard; empty for a valid one.

    A label that says "made by AI" needs the fields of its producer; in the weaker two, which a platform writes on
    content without a label, those of the platform do.
    """
    problems = [] if record.is_json else ["not_json"]
    label = record.get("Label")
    if label not in ("1", "2", "3"):
        problems.append("label_unknown" if label else "label_missing")
    needed = [("ContentProducer", "producer_missing"), ("ProduceID", "produce_id_missing")]
    if label in ("2", "3") and record.get("ContentPropagator") and record.get("PropagateID"):
        needed = []
    problems += [problem for name, problem in needed if not record.get(name).strip()]
    if any(len(value) > MAX_FIELD_CHARS for value in record.fields.values()):
        problems.append("too_long")
    if not all(value.isprintable() for value in record.fields.values()):
        problems.append("unprintable")
    if any(_code_is_wrong(record.get(name)) for name in ("ContentProducer", "ContentPropagator")):
        problems.append("producer_code_wrong")
    return problems


def _code_is_wrong(producer: str) -> bool:
    return producer_credit_code(producer) == ""


def producer_credit_code(producer: str) -> str | None:
    """Return the credit code in a producer's 27-character code; empty if its check character is wrong; None if the
    producer is named in another way, such as by a plain name or a person's code."""
    if not _PRODUCER_CODE.match(producer) or producer[3] != "1":
        return None
    code = producer[_CREDIT_CODE]
    return code if credit_code.is_valid(code) else ""


def judge(records: list[AigcRecord], parsed: ParsedFile) -> list[InspectionFinding]:
    """Return the findings from all records of one file."""
    if len(records) > MAX_RECORDS:
        parsed.note(NoteCode.LIMIT_REACHED, "aigc", "records")
    records = records[:MAX_RECORDS]
    if not records:
        return []
    statements = {record.statement for record in records}
    results = []
    if len(statements) > 1:
        places = [f"{record.where}: {' '.join(record.statement)}" for record in records]
        results.append(finding(FindingCode.AIGC_CONFLICT, records[0].where, places=places))
    for statement in sorted(statements):
        same = [record for record in records if record.statement == statement]
        results.append(_judge_one(same, alone=len(statements) == 1))
    return results


_BY_LABEL = {"2": FindingCode.AIGC_POSSIBLE, "3": FindingCode.AIGC_SUSPECTED}


def _judge_one(same: list[AigcRecord], alone: bool) -> InspectionFinding:
    best = min(same, key=lambda record: len(problems(record)))
    wrong = problems(best)
    label = best.get("Label")
    code = _BY_LABEL.get(label, FindingCode.AIGC_GENERATED_DEFECTIVE)
    if label == "1" and not wrong and alone:
        code = FindingCode.AIGC_GENERATED
    producer = best.get("ContentProducer")
    credit = producer_credit_code(producer)
    return finding(
        code,
        best.where,
        label=label,
        producer=producer,
        producer_name=KNOWN_PRODUCERS.get(credit or ""),
        credit_code=credit,
        produce_id=best.get("ProduceID"),
        propagator=best.get("ContentPropagator"),
        propagate_id=best.get("PropagateID"),
        also_at=sorted({record.where for record in same} - {best.where}),
        problems=wrong if alone else [*wrong, "labels_disagree"],
    )


def emptied(
    packets: list[xmp.Xmp], label_texts: list[tuple[str, str]], records: list[AigcRecord]
) -> list[InspectionFinding]:
    """Return the places for a label that contain none: the property or key without a value, or the namespace alone."""
    full = {record.where for record in records}
    places = [where for where, text in label_texts if text.strip("\0 \t\r\n") in ("", "{}")]
    places += [
        f"{packet.where} xmp"
        for packet in packets
        if packet.complete and xmp.AIGC.encode() in packet.raw and f"{packet.where} xmp" not in full
    ]
    return [finding(FindingCode.AIGC_EMPTIED, places[0], places=places)] if places else []
