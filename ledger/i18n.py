"""Texts of each language from Babel catalogues; dates, numbers and money in the format of each language.

English texts are in the code. `ledger/locale/{folder}/*.po` contain the other languages of `LANGUAGES`, one file for
each area, which are read at first use. A text without translation is shown in English; a test reports it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache
from gettext import GNUTranslations, NullTranslations

from babel import Locale
from babel.dates import format_date, format_datetime, format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal, format_percent

from ledger.catalogue import catalogue_files
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.rules.languages import DEFAULT_LOCALE as DEFAULT_LOCALE
from ledger.rules.languages import LANGUAGES, Language, language_for
from ledger.rules.languages import LOCALES as LOCALES


@dataclass(frozen=True)
class Texts:
    """Texts and formats of one language. The argument `zone` of a method is the time zone of the result."""

    locale: str
    catalogue: NullTranslations

    def gettext(self, message: str, **values: object) -> str:
        """Return `message` in this language, with `%(name)s` filled in."""
        text = self.catalogue.gettext(message)
        return text % values if values else text

    def ngettext(self, singular: str, plural: str, number: int, **values: object) -> str:
        """Return the form for `number`, which is filled in as `%(num)s`."""
        return self.catalogue.ngettext(singular, plural, number) % {"num": number, **values}

    def date(self, moment: datetime, zone: tzinfo) -> str:
        """Return the date of `moment` in `zone`, written out."""
        return format_date(moment.astimezone(zone), format="long", locale=self._babel())

    def time(self, moment: datetime, zone: tzinfo) -> str:
        """Return date and minute of `moment` in `zone`, with the name of the zone."""
        local = moment.astimezone(zone)
        named = "/" in str(getattr(zone, "key", ""))  # Babel names a zone without a place "Unknown Region"
        place = format_datetime(local, "vvvv", tzinfo=zone, locale=self._babel()) if named else local.tzname()
        minute = format_datetime(local, self.language.time_pattern, tzinfo=zone, locale=self._babel())
        return self.with_note(minute, str(place))

    def with_note(self, text: str, note: str) -> str:
        """Return `text` followed by a remark."""
        return self.language.with_note.format(text=text, note=note)

    def month_day(self, moment: datetime) -> str:
        """Return month and day of `moment` in UTC, in short form."""
        return str(format_skeleton("MMMd", moment, locale=self._babel()))

    @property
    def language(self) -> Language:
        """The row of this language in `LANGUAGES`."""
        return LANGUAGES[self.locale]

    def last_day(self, end: datetime, zone: tzinfo) -> str:
        """Return the last date before `end` if `end` is a midnight in `zone`, else its date and minute, so that the
        text never promises more time than there is."""
        local = end.astimezone(zone)
        if (local.hour, local.minute, local.second) == (0, 0, 0):
            return self.date(end - timedelta(seconds=1), zone)
        return self.time(end, zone)

    def money(self, amount_minor: int, currency: str) -> str:
        """Return an amount, given in minor units, with its currency."""
        digits = MINOR_DIGITS.get(currency, 2)
        return format_currency(Decimal(amount_minor).scaleb(-digits), currency, locale=self._babel())

    def number(self, value: int | float) -> str:
        """Return a number with this language's separators."""
        return format_decimal(value, locale=self._babel())

    def percent(self, share: float) -> str:
        """Return a share (1 is all) as a whole percentage."""
        return format_percent(share, locale=self._babel())

    def _babel(self) -> Locale:
        return _babel_locale(self.locale)


def texts(locale: str) -> Texts:
    """Return the texts of `locale`, one of `LOCALES`; English for any other."""
    return _texts(locale if locale in LOCALES else DEFAULT_LOCALE)


def negotiate(accept_language: str | None) -> str:
    """Return the best locale for an `Accept-Language` header."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate((accept_language or "").split(",")[:20]):
        tag, _, parameter = part.strip().partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        ranked.append((-quality, place, tag.strip().lower()))
    for quality, _, tag in sorted(ranked):
        known = language_for(tag)
        if quality < 0 and known is not None:
            return known
    return DEFAULT_LOCALE


@cache
def _texts(locale: str) -> Texts:
    merged: NullTranslations = NullTranslations()
    for file in catalogue_files(locale):
        with file.open("rb") as source:
            catalogue = read_po(source, locale=LANGUAGES[locale].cldr, abort_invalid=True)
        compiled = io.BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        area = GNUTranslations(compiled)
        area.add_fallback(merged)
        merged = area
    return Texts(locale, merged)


@cache
def _babel_locale(locale: str) -> Locale:
    return Locale.parse(LANGUAGES[locale].cldr)
