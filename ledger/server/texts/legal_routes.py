"""Where a person can go if they do not agree with the ledger, by the legal profile of their case.

The routes are rows of the jurisdiction (`rules.jurisdictions`); each names the statute it comes from. `docs/letters.md`
says which duty each letter fulfils. An operator has these texts read by a lawyer before they are sent. Every route
exists in all languages: a buyer on a European platform may read Chinese.
"""

from __future__ import annotations

from ledger.i18n import Texts
from ledger.rules.jurisdictions import Profile, RouteAfter
from ledger.rules.outcomes import REMOVED, Outcome


def routes(t: Texts, profile: Profile, outcome: Outcome | None) -> list[str]:
    """The person's legal routes, one sentence or two each; `outcome` is None before a decision."""
    reached = {RouteAfter.FILING}
    if outcome is not None:
        reached |= {RouteAfter.DECISION} if outcome in REMOVED else {RouteAfter.DECISION, RouteAfter.RECORD_KEPT}
    return [t.gettext(route.text) for route in profile.spec.routes if route.after in reached]
