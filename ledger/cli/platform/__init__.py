"""Commands for platforms and auditors."""
