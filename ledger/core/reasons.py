"""Reason codes in words, English and simplified Chinese: what a clerk may read out to the person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence in both languages."""

    en: str
    zh_cn: str


REASONS: Mapping[str, Text] = MappingProxyType(
    {
        "protected_impersonation": Text(
            "This person's account was abused by someone else; they are protected, not suspected.",
            "此人的账户曾被他人冒用，其本人受到保护，并非嫌疑人。",
        ),
        "disputed_event": Text(
            "A record is disputed by the person and does not count while it is reviewed.",
            "有一条记录正被本人申诉，复核期间不计入信用。",
        ),
        "confirmed_by_several_platforms": Text(
            "Independent platforms have each confirmed refund fraud.", "多家相互独立的平台分别确认过退款欺诈。"
        ),
        "repeated_at_one_platform": Text(
            "One platform has confirmed refund fraud several times.", "同一平台多次确认过退款欺诈。"
        ),
        "weak_match": Text(
            "Matched by one identifier that people share or change, such as a phone number.",
            "仅由一项可能共用或更换的标识（如手机号）匹配。",
        ),
        "ai_fabricated_image": Text("A damage photo made with AI was confirmed.", "已确认使用人工智能伪造的损坏照片。"),
        "edited_image": Text("An edited photo was confirmed.", "已确认使用修改过的照片。"),
        "tampered_video": Text("A tampered video was confirmed.", "已确认使用篡改过的视频。"),
        "false_non_receipt": Text("A false claim of non-receipt was confirmed.", "已确认虚假声称未收到货。"),
        "empty_parcel": Text("An empty or short return was confirmed.", "已确认退回空包裹或缺件。"),
        "switched_return": Text(
            "Another or a counterfeit item was returned, as was confirmed.", "已确认退回的是其他商品或假货。"
        ),
        "fake_return_tracking": Text("False return tracking was confirmed.", "已确认使用虚假退货物流信息。"),
        "wardrobing": Text("A used item was returned as new, as was confirmed.", "已确认将使用过的商品当作新品退回。"),
        "friendly_chargeback": Text("A false chargeback was confirmed.", "已确认虚假拒付。"),
        "account_farm": Text(
            "Linked accounts were used for refund fraud, as was confirmed.", "已确认利用关联账户实施退款欺诈。"
        ),
    }
)


def texts(code: str) -> Text:
    """The words of a reason code. Raises KeyError for an unknown one."""
    return REASONS[code]
