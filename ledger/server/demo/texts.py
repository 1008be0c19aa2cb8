"""The sentences that the demo prints."""

from __future__ import annotations

from collections.abc import Mapping

PRODUCER = "Demo image service"
"""The producer that the label of the demo's photo names."""


def _(message: str) -> str:
    """Mark a text for the catalogue; `_Story.text` translates it."""
    return message


TEXTS: Mapping[str, str] = {
    "begin": _("three holders make and share the key; servers start"),
    "former": _("%(former)s has a ledger of one key holder, which stays as it is; this demo uses %(folder)s"),
    "title": _("One buyer's standing, as each platform's report changes it"),
    "columns": _("what happened|tier|credit|points|owners|advice"),
    "before": _("no report yet"),
    "first": _("acme reports: AI-made damage photo"),
    "same": _("corner, same owner: false non-receipt"),
    "second": _("bazaar, independent: false non-receipt"),
    "high": _("bazaar again: switched return"),
    "restitution": _("acme is paid back: its points halve"),
    "withdraw": _("bazaar withdraws the last: wrong facts"),
    "honest": _("another buyer, never reported"),
    "victim": _("a third one, whose account was abused"),
    "accused": _("a fourth one: acme reports a switched return"),
    "contested": _("the fourth contests it at /me"),
    "healed": _("a reviewer at /console overturns it"),
    "stopped": _("holder south is stopped; a new buyer"),
    "ways": _("The first buyer again, looked up in three ways"),
    "way_columns": _("how|tier|credit|points|what the ledger learns"),
    "direct": _("lookup|the pseudonyms, and that they are looked up now"),
    "private": _("check, one sealed bucket each|the first few bits of each pseudonym"),
    "download": _("check, from a downloaded copy|nothing about any buyer"),
    "bounded": _("at least"),
    "parties": _(
        "What each party holds and could learn: 2 of 3 holders evaluate; each tried %(candidates)s numbers, "
        "%(listed)s of them listed"
    ),
    "party_columns": _("party|holds|named|could learn"),
    "operator": _("operator, also holder ledger|log key, database, 1 share|no name; who looks up which pseudonym"),
    "north": _(
        "holder north, or a thief of its backup|1 share, list of platforms|no name; how many identifiers a platform "
        "tags"
    ),
    "south": _("holder south|1 share, list of platforms|no name; how many identifiers a platform tags"),
    "thief": _("thief of the ledger's backup|log key, database|no name"),
    "member": _(
        "acme, a member|its signing key, its customers|the standing of people whom it names itself: at most %(daily)s "
        "a day, 10^9 numbers in %(days)s days"
    ),
    "by_budget": _("by budget"),
    "two": _("north and south together|2 shares: the key|all names; so holders must be independent"),
    "outage": _(
        "With holder south stopped, the other two tagged a new buyer; the lookup took %(milliseconds)s ms. The SDK "
        "named who failed: %(named)s."
    ),
    "photos": _("The first claim's photo, and what a chat makes of it"),
    "photo_columns": _("photo|signs of its origin|used before?"),
    "photo": _("as acme got it: PNG"),
    "copy": _("as bazaar gets it: 60 %, JPEG"),
    "ai_indicated": _("made by AI, says a label; its issuer confirms it"),
    "nothing_found": _("nothing; which does not mean genuine"),
    "not_asked": _("reported by acme"),
    "used": _("in %(reports)s confirmed report by %(platforms)s other platform"),
    "receipt": _("Receipt of acme's report: entry %(index)s is in the log of %(size)s entries, signed by its key."),
    "log": _("Log verified: %(size)s entries recomputed from their leaves, %(events)s of them commitments only."),
    "statement": _("I sent back what I had received, with the serial number on the box."),
    "reasons": _("The reporter could not show the serial number of the item that it sent."),
    "appeal": _("Case %(case)s: %(outcome)s. Letter to the buyer: %(letter)s"),
    "control_group": _("The reports of one owner alone never raise a buyer above watch, and no tier is a refusal."),
    "again": _("All data is in %(folder)s. Run it again to add buyers to the same ledger. Took %(seconds)s s."),
}
"""Texts by name; `|` separates the cells of a row."""
