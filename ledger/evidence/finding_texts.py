"""Findings, notes and conclusions in sentences that people can act on, in every language.

A receipt has codes and facts only. The sentences are made here when the receipt is shown, and no sentence claims more
than the signal proves. No sentence says "genuine" or that a person did something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ledger.evidence.findings import Fact, InspectionFinding
from ledger.evidence.formats.metadata import Note, NoteCode
from ledger.evidence.receipt import Conclusion, InspectionReceipt
from ledger.i18n import Texts, texts
from ledger.rules.findings import SIGNED, TRUSTED, FindingCode, Strength, Trust


def _(message: str) -> str:
    """Mark a text for the catalogue. It is translated when it is shown."""
    return message


_N = NoteCode

STRENGTHS: dict[Strength, str] = {
    Strength.IDENTIFIES: _("identifies"),
    Strength.INDICATES: _("indicates"),
    Strength.HINT: _("hint"),
}

CONCLUSIONS: dict[Conclusion, str] = {
    Conclusion.AI_IDENTIFIED: _(
        "The file carries a manifest by which its issuer, whose signature is under a trust list, says that the picture "
        "was made by AI. That says how the file came about, not who sent it or why."
    ),
    Conclusion.AI_INDICATED: _(
        "The file carries signs of AI that do not identify how it came about: they are about a part of it, or anybody "
        "could have made them. Further evidence is needed."
    ),
    Conclusion.OTHER_FINDINGS: _(
        "No label and no clear sign of AI was found. What was found says something about how the file was handled. "
        "This does not mean that the picture is genuine, nor that it is not: labels are lost whenever a picture is "
        "resized, photographed from a screen or sent through a chat."
    ),
    Conclusion.NOTHING_FOUND: _(
        "Nothing was found: no AI label and no trace of a generator or an editor. This does not mean that the "
        "picture is genuine, nor that it is not: labels are lost whenever a picture is resized, photographed from a "
        "screen or sent through a chat."
    ),
}
INCOMPLETE = _("Not everything in the file could be read; the notes say what. A label may lie there.")

TRUSTS: dict[Trust, str] = {
    Trust.LISTED: _("The signer’s certificate is under the official C2PA trust list."),
    Trust.INTERIM: _(
        "The signer’s certificate is under the former interim trust list, and was used before the end of that list."
    ),
    Trust.UNLISTED: _(
        "The signer’s certificate is under no trust list that counts here. Anybody can make one in any name, so the "
        "name proves nothing."
    ),
    Trust.EXPIRED: _(
        "The signer’s certificate is out of date, and no trusted time stamp shows that it was valid when it signed, so "
        "the name proves nothing."
    ),
    Trust.INVALID: _(
        "The signer’s certificate is none that may sign, or its signature does not verify, so the name proves nothing."
    ),
    Trust.REVOKED: _("The signer’s certificate was revoked by its issuer, so the name proves nothing."),
}
NOT_SIGNED = _("No signature under a trust list is known to stand behind it.")
TRUST_LIMITS: dict[Trust, str] = {
    Trust.LISTED: _("A trust list says who the signer is, not who used its service or device, or for what."),
    Trust.INTERIM: _("A trust list says who the signer is, not who used its service or device, or for what."),
}
"""What trust does not show; the sentences about the others say it themselves."""

TRUST_TITLES: dict[Trust, str] = {
    Trust.LISTED: _("signer on the official trust list"),
    Trust.INTERIM: _("signer on the former interim list"),
    Trust.UNLISTED: _("signer on no trust list"),
    Trust.EXPIRED: _("certificate out of date"),
    Trust.INVALID: _("certificate or signature not valid"),
    Trust.REVOKED: _("certificate revoked"),
}
FOR_PERSON = _("It speaks for the person.")
FOR_NOBODY = _("So it speaks for nobody.")

FINDINGS: Mapping[str, str] = {code: code.spec.shows for code in FindingCode}

TITLES: Mapping[str, str] = {code: code.spec.title for code in FindingCode}
"""What a code says in a few words, without the facts of a file: a report carries codes only."""

LIMITS: Mapping[str, str] = {code: code.spec.limit for code in FindingCode}
"""What a code does not show, for the person who decides; `docs/evidence.md` says more."""

NOTES: dict[NoteCode, str] = {
    _N.TRUNCATED: _("The file, or a part of it, is cut off."),
    _N.MALFORMED: _("A part of the file contradicts itself; reading stopped there."),
    _N.LIMIT_REACHED: _("The file has more parts than are read; reading stopped there."),
    _N.PIECE_TOO_LARGE: _("A part is larger than what is read, and was left out."),
    _N.CHECKSUM_WRONG: _("A part’s checksum is wrong: it was changed by something that did not mind."),
    _N.TEXT_UNREADABLE: _("A text in the file cannot be read."),
    _N.XMP_UNREADABLE: _("The XMP packet is not well-formed; it was read up to the fault."),
    _N.EXIF_UNREADABLE: _("The EXIF block is damaged; it was read up to the fault."),
    _N.THUMBNAIL_UNREADABLE: _("The small picture inside the file cannot be decoded."),
    _N.PIXELS_NOT_COMPARED: _("The picture was not compared with the small one inside the file."),
    _N.C2PA_UNREADABLE: _("There is a C2PA manifest that cannot be read."),
    _N.C2PA_NOT_READ: _(
        "There is a C2PA manifest that was not read: it is too large, it took too long, or the reader stopped."
    ),
    _N.C2PA_REMOTE: _("The file says that its C2PA manifest lies on the network; it was not fetched."),
    _N.C2PA_NO_SOURCE: _("There is a C2PA manifest, and it does not say where the picture comes from."),
    _N.C2PA_CREDENTIAL: _(
        "The signer’s certificate is expired, or under no trust list, or a time stamp does not count. Honest people’s "
        "files have that too; it decides how far the manifest’s word goes."
    ),
    _N.C2PA_CREDENTIAL_REFUSED: _(
        "The signer’s certificate was revoked, or is none that may sign C2PA manifests, so its manifest proves nothing."
    ),
    _N.C2PA_IDENTITY: _(
        "The manifest names a person or organisation in an identity assertion that could not be checked. That is no "
        "sign that the file was changed."
    ),
    _N.EXTENSION_DIFFERS: _("The file’s name ends differently from what the file is."),
    _N.TRAILING_DATA: _("There are bytes behind the end of the picture; phones put further pictures there."),
    _N.NO_METADATA: _("There is no metadata at all, as in most pictures that went through a chat."),
    _N.PICTURE_NOT_HASHED: _("The picture cannot be decoded here, so it has no hash by which it could be found again."),
    _N.PICTURE_UNFIT: _("The picture is too flat: its hash is shown and not used for finding pictures again."),
    _N.LISTING_NOT_COMPARED: _(
        "The picture cannot be decoded here, so it was not compared with the merchant’s photos."
    ),
}

_NOT_SAID = _("not stated")


def conclusion(receipt: InspectionReceipt, locale: str) -> str:
    """Return the conclusion in one or two sentences, with a warning if a part of the file was not read."""
    said = texts(locale)
    sentence = said.gettext(CONCLUSIONS[receipt.conclusion])
    return sentence if receipt.complete else f"{sentence} {said.gettext(INCOMPLETE)}"


def strength(finding: InspectionFinding, locale: str) -> str:
    """Return how far a finding goes, in a word."""
    return texts(locale).gettext(STRENGTHS[finding.strength])


def sentence(finding: InspectionFinding, locale: str) -> str:
    """Return a finding in a sentence, filled with its facts."""
    said = texts(locale)
    return said.gettext(FINDINGS[finding.code], **_Values(finding, said)).strip()


def title(code: str, locale: str, trust: Trust | None = None) -> str:
    """Return a code in a few words, with the trust in the signer where it rests on one; of a later version's code, the
    code itself."""
    said = texts(locale)
    name = said.gettext(TITLES.get(code, code))
    if trust is None or code not in SIGNED:
        return name
    trust_text = said.gettext(TRUST_TITLES[trust])
    return said.with_note(name, trust_text)


def trust_sentence(code: str, trust: Trust | None, locale: str) -> str:
    """Return a sentence about the signature of a code, empty for a code that is not signed."""
    return texts(locale).gettext(NOT_SIGNED if trust is None else TRUSTS[trust]) if code in SIGNED else ""


def limit(code: str, locale: str, trust: Trust | None = None) -> str:
    """Return what a code does not show, given the trust in the signer; empty for a later version's code."""
    said = texts(locale)
    sentences = [LIMITS[code]] if code in LIMITS else []
    if code in SIGNED and trust in TRUST_LIMITS:
        sentences.append(TRUST_LIMITS[trust])
    return said.language.between_sentences.join(map(said.gettext, sentences))


def note_sentence(note: Note, locale: str) -> str:
    """Return a note in a sentence."""
    return texts(locale).gettext(NOTES[note.code])


def in_words(receipt: InspectionReceipt, locale: str) -> dict[str, object]:
    """Return conclusion, findings and notes as sentences, in the order of the receipt."""
    return {
        "conclusion": conclusion(receipt, locale),
        "findings": [sentence(finding, locale) for finding in receipt.findings],
        "limits": [limit(finding.code, locale, finding.trust) for finding in receipt.findings],
        "notes": [note_sentence(note, locale) for note in receipt.notes],
    }


_OPTIONAL = {"parameters"}
"""Facts whose absence is not worth a word."""


class _Values(dict[str, object]):
    """A finding's facts by name, readable; what is not there is said to be so."""

    def __init__(self, finding: InspectionFinding, said: Texts) -> None:
        facts: Mapping[str, Fact] = finding.facts
        comma = said.language.between_items
        super().__init__(
            {name: comma.join(map(str, value)) if isinstance(value, list) else value for name, value in facts.items()}
        )
        if "producer_name" in facts:
            self["producer"] = f"{facts['producer_name']} ({facts.get('producer', '')})"
        self["trust"] = said.gettext(NOT_SIGNED if finding.trust is None else TRUSTS[finding.trust])
        self["for_person"] = said.gettext(FOR_PERSON if finding.trust in TRUSTED else FOR_NOBODY)
        for name in _NAMES - self.keys():
            self[name] = "" if name in _OPTIONAL else said.gettext(_NOT_SAID)


_NAMES = frozenset(name for text in FINDINGS.values() for name in re.findall(r"%\((\w+)\)", text))
"""Every fact that a sentence asks for."""
