"""The referral file: what a platform hands to a merchant, an AI provider or an authority about its own reports.

See `docs/referral.md`.
"""
