"""Normalisation of identifiers into the form that every platform derives: `kind ":" value`, UTF-8, Unicode NFKC.

One differing byte gives an unrelated tag: the record is missed, or, after a mistyped digit, another person is named. So
everything that can be checked without a network is checked (numbering plans, check digits, grammar), and an input that
fails is refused. `docs/identifiers.md` states the rules, `docs/vectors/identifiers.json` has examples that other
implementations must reproduce. Error messages never repeat the value, and no error is chained to an error of another
library, whose message may repeat it: tracebacks are written to logs.

Callers pass only identifiers of the claimant that the platform itself has verified, never those of a parcel's
recipient.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from datetime import date
from enum import StrEnum

from ledger.errors import (
    InvalidCnId,
    InvalidDevice,
    InvalidEmail,
    InvalidIdentifier,
    InvalidPayment,
    InvalidPhone,
    UnsupportedKind,
)


class Kind(StrEnum):
    """The kinds of identifier that name the same person on every platform."""

    PHONE = "phone"
    EMAIL = "email"
    CN_ID = "cn_id"
    PAYMENT = "payment"
    DEVICE = "device"


STRONG_KINDS = frozenset({Kind.CN_ID, Kind.PAYMENT})
"""Kinds of which one match is strong; phones are recycled, mailboxes and devices shared."""

_KINDS: dict[str, Kind] = {kind.value: kind for kind in Kind}

MAX_RAW_CHARS = 512
"""Longest identifier accepted before normalisation, in characters."""

_SEPARATORS = re.compile(r"[ -]")


def canonical(kind: Kind | str, raw: str, *, region: str | None = None, fold_mailbox: bool = False) -> bytes:
    """Return the canonical bytes of an identifier, to be blinded.

    `region` is the ISO 3166-1 alpha-2 country of a phone number written in national form (any other kind ignores it).
    `fold_mailbox` also merges spellings that reach one mailbox (see docs/identifiers.md); all platforms of one ledger
    must choose alike, and the default is not to.
    Raises UnsupportedKind, or the InvalidIdentifier of the kind: InvalidPhone, InvalidEmail, InvalidCnId,
    InvalidPayment, InvalidDevice.
    """
    kind = parse_kind(kind)
    text = _normalised(raw)
    match kind:
        case Kind.PHONE:
            value = _phone(text, region)
        case Kind.EMAIL:
            value = _email(text, fold_mailbox)
        case Kind.CN_ID:
            value = _cn_id(text)
        case Kind.PAYMENT:
            value = _payment(text)
        case Kind.DEVICE:
            value = _device(text)
    return f"{kind.value}:{value}".encode()


def parse_kind(kind: Kind | str) -> Kind:
    """Return the Kind of that name. Raises UnsupportedKind, also for the account ids of one platform."""
    known = _KINDS.get(kind)
    if known is None:
        names = ", ".join(Kind)
        raise UnsupportedKind(
            f"The kind of an identifier must be one of {names}; an account id of one platform means nothing elsewhere."
        )
    return known


def _normalised(raw: str) -> str:
    if not isinstance(raw, str):
        raise InvalidIdentifier("An identifier must be text.")
    if len(raw) > MAX_RAW_CHARS:
        raise InvalidIdentifier(f"An identifier must have at most {MAX_RAW_CHARS} characters.")
    text = unicodedata.normalize("NFKC", raw).strip()
    if not text:
        raise InvalidIdentifier("An identifier must not be empty.")
    # Controls, zero-width and direction marks cannot be seen, yet would make another identifier.
    if any(unicodedata.category(char).startswith("C") for char in text):
        raise InvalidIdentifier("An identifier must not hold invisible, control or unassigned characters.")
    return text


# Phone: E.164 ---------------------------------------------------------------------------------------------------------

# Only what people write in a number: no letters, so that neither "tel:" URIs nor extensions are read as part of it.
_PHONE = re.compile(r"\+?[\d\s()./\-\u2010-\u2015]+")


def _phone(text: str, region: str | None) -> str:
    import phonenumbers  # here, because its tables take 80 ms to load and most commands never need them

    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise InvalidPhone("The region must be an ISO 3166-1 alpha-2 code with telephone numbers, such as CN.")
    if region is None and not text.startswith("+"):
        raise InvalidPhone("A phone number must start with + and its country code, or come with its region.")
    if not _PHONE.fullmatch(text):
        raise InvalidPhone("A phone number must consist of digits and the usual separators.")
    number = None
    with suppress(phonenumbers.NumberParseException):
        number = phonenumbers.parse(text, region)
    if number is None or not phonenumbers.is_valid_number(number):
        raise InvalidPhone("No such phone number is assigned in its country's numbering plan.")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


# E-mail: RFC 5321 and 6531 --------------------------------------------------------------------------------------------

_GMAIL_DOMAINS = frozenset({"gmail.com", "googlemail.com"})


def _email(text: str, fold_mailbox: bool) -> str:
    from email_validator import EmailNotValidError, validate_email  # here: 30 ms to load

    parts = None
    with suppress(EmailNotValidError):
        parts = validate_email(text, check_deliverability=False, strict=True)  # strict: 64 characters before the @
    if parts is None or parts.ascii_domain is None:
        raise InvalidEmail("This is not a valid e-mail address of a public domain.")
    # Lower-casing may leave the normal form (Turkish capital I with dot), so normalise again.
    local = unicodedata.normalize("NFKC", parts.local_part.lower())
    domain = parts.ascii_domain.lower()
    if fold_mailbox:
        local = local.partition("+")[0]
        if domain in _GMAIL_DOMAINS:  # the only large provider whose documentation says that it ignores dots
            local, domain = local.replace(".", ""), "gmail.com"
        if not local or local.endswith("."):
            raise InvalidEmail("Nothing is left of this e-mail address when its mailbox is folded.")
    return f"{local}@{domain}"


# Chinese citizen identity number: GB 11643-1999 -----------------------------------------------------------------------

_CN_ID = re.compile(r"[1-9][0-9]{16}[0-9X]")
# First two digits: the divisions of GB/T 2260, 81 to 83 for the residence permits of Hong Kong, Macao and Taiwan
# residents, 91 to 98 for those of foreign permanent residents.
_CN_ID_DIVISIONS = frozenset(
    str(code)
    for codes in (
        range(11, 16),
        range(21, 24),
        range(31, 38),
        range(41, 47),
        range(50, 55),
        range(61, 66),
        (71, 81, 82, 83),
        range(91, 99),
    )
    for code in codes
)
_CN_ID_YEARS = range(1900, 2100)  # this module has no clock; a birth after today is for the platform to notice


def _cn_id(text: str) -> str:
    value = _SEPARATORS.sub("", text).upper()
    if not _CN_ID.fullmatch(value):
        raise InvalidCnId("An identity number must have 18 characters: 17 digits and a digit or X (GB 11643-1999).")
    if value[:2] not in _CN_ID_DIVISIONS:
        raise InvalidCnId("An identity number must begin with the code of a province-level division.")
    birth = None
    with suppress(ValueError):
        birth = date(int(value[6:10]), int(value[10:12]), int(value[12:14]))
    if birth is None or birth.year not in _CN_ID_YEARS:
        raise InvalidCnId("The birth date in an identity number must exist and lie between 1900 and 2099.")
    from stdnum.iso7064 import mod_11_2  # here: 10 ms to load, and most commands never need it

    if not mod_11_2.is_valid(value):
        raise InvalidCnId("The check character of an identity number is wrong.")
    return value


# Payment: card number (ISO/IEC 7812) or wallet account ----------------------------------------------------------------

_PAN = re.compile(r"[1-9][0-9]{11,18}")
_WALLET = re.compile(r"([A-Za-z][A-Za-z0-9_-]{1,31})/([A-Za-z0-9._-]{6,64})")
_NOT_PROVIDERS = frozenset({"pan", "card"})  # a card written as a wallet would have a second form


def _payment(text: str) -> str:
    wallet = _WALLET.fullmatch(text)
    if wallet and wallet[1].lower() in _NOT_PROVIDERS:
        raise InvalidPayment("A card number is given as its digits alone.")
    if wallet:
        # Providers are names and have no case; their account numbers are opaque and keep it.
        return f"{wallet[1].lower()}/{wallet[2]}"
    number = _SEPARATORS.sub("", text)
    if not _PAN.fullmatch(number):
        raise InvalidPayment("A payment instrument must be a card number of 12 to 19 digits, or provider/account.")
    from stdnum import luhn  # here: 10 ms to load, and most commands never need it

    if not luhn.is_valid(number):
        raise InvalidPayment("The check digit of a card number is wrong.")
    return f"pan:{number}"


# Device ---------------------------------------------------------------------------------------------------------------

_DEVICE = re.compile(r"[a-z0-9._:-]{16,128}")
_DEVICE_MIN_DISTINCT = 6
# Many devices have this ANDROID_ID (early emulators and one batch of phones), so it identifies none.
_SHARED_DEVICES = frozenset({"9774d56d682e549c"})


def _device(text: str) -> str:
    value = text.lower()  # the same UUID is printed in capitals by one system and in small letters by another
    if not _DEVICE.fullmatch(value):
        raise InvalidDevice("A device id must have 16 to 128 of the characters A-Z a-z 0-9 . _ : and -.")
    # The all-zero advertising id is that of all users who opted out: a match would join strangers.
    distinct = {char for char in value if char.isalnum()}
    if len(distinct) < _DEVICE_MIN_DISTINCT or value in _SHARED_DEVICES:
        raise InvalidDevice("This device id is a placeholder that many devices share.")
    return value
