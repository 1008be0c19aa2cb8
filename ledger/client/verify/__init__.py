"""Verification of the log, receipts and key rotations, for platforms and auditors."""
