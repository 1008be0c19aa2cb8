"""Fixtures that the tests of referrals share."""

from __future__ import annotations

from tests.referral.fonts import quick_font, reduced_font, whole_font

__all__ = ["quick_font", "reduced_font", "whole_font"]
