"""Why a standing is what it is: reason codes, and one plain text for each in English and Chinese.

A text tells a person at the platform, and the consumer who asks, what is on record and what it does not mean.
It accuses nobody and names no platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ledger.core.conduct import Conduct
from ledger.core.reason_codes import Reason as Reason

Locale = Literal["en", "zh-CN"]
MAX_REASONS = 4


CONDUCT_REASON: Mapping[str, Reason] = {
    conduct: conduct.spec.reason for conduct in Conduct if conduct.spec.reason is not None
}
"""The reason that a standing gives for a conduct. A protective conduct has none: it is given as `protected`."""

REASON_TEXTS: dict[Reason, dict[Locale, str]] = {
    Reason.PROTECTED: {
        "en": "A member confirmed that somebody else abused this person's account. Treat them as a victim.",
        "zh-CN": "有成员平台确认此人的账户曾被他人冒用。请按受害者对待。",
    },
    Reason.DISPUTED: {
        "en": "This person contests a report. Until the appeal is decided it does not count.",
        "zh-CN": "本人已对某条记录提出异议。在异议处理完毕之前，该记录不计分。",
    },
    Reason.WEAK_MATCH: {
        "en": "Only one changeable identifier matched, such as a phone number, which may have had another owner.",
        "zh-CN": "仅匹配到一项可能变更的标识（例如手机号），它此前可能属于他人。",
    },
    Reason.REPEATED: {
        "en": "One member reported three or more separate acts; being many adds no points to them.",
        "zh-CN": "同一成员平台报告了三次或以上独立行为；次数本身不额外计分。",
    },
    Reason.ONE_REPORTER: {
        "en": "All counted reports come from one member; no independent member confirms them.",
        "zh-CN": "全部计分记录来自同一成员平台，尚无其他独立成员佐证。",
    },
    Reason.INDEPENDENT: {
        "en": "Independent members each reported separate confirmed acts.",
        "zh-CN": "多个相互独立的成员平台分别报告了经确认的行为。",
    },
    Reason.FALSE_IMAGE: {
        "en": "The weightiest record: a refund claim with a picture or video confirmed as made up or altered.",
        "zh-CN": "权重最高的记录：退款申请所用的图片或视频经确认为伪造或篡改。",
    },
    Reason.FALSE_DELIVERY: {
        "en": "The weightiest record: a claim of non-receipt for a parcel confirmed as delivered.",
        "zh-CN": "权重最高的记录：包裹经确认已送达，却申请未收到货退款。",
    },
    Reason.FALSE_RETURN: {
        "en": "The weightiest record: a return confirmed as empty, switched, never sent, or of used goods as new.",
        "zh-CN": "权重最高的记录：退货经确认为空包、调包、未寄出，或将使用过的商品当作新品退回。",
    },
    Reason.FALSE_CHARGEBACK: {
        "en": "The weightiest record: a card payment charged back although the purchase was the person's own.",
        "zh-CN": "权重最高的记录：确属本人的交易却向发卡机构申请拒付。",
    },
    Reason.LINKED_ACCOUNTS: {
        "en": "The weightiest record: several linked accounts used for confirmed refund fraud.",
        "zh-CN": "权重最高的记录：多个关联账户被用于经确认的退款欺诈。",
    },
    Reason.RESTITUTED: {
        "en": "The full amount of at least one report was paid back; its points are halved.",
        "zh-CN": "至少一条记录的款项已全额退还，其分值减半。",
    },
    Reason.FADED: {
        "en": "What is on record is minor or long ago and does not affect the standing.",
        "zh-CN": "现有记录轻微或时间久远，不影响信用状况。",
    },
    Reason.NO_RECORD: {
        "en": "Nothing on record counts against this person.",
        "zh-CN": "没有任何对此人不利的有效记录。",
    },
}


def reason_text(code: str, locale: Locale) -> str:
    """The plain text of reason `code` in `locale`. Raises ValueError for a code that does not exist."""
    return REASON_TEXTS[Reason(code)][locale]
