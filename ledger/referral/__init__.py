"""Referrals: documents about a platform's own reports for a merchant, an AI provider or an authority.

Described in `docs/referral.md`.
"""
