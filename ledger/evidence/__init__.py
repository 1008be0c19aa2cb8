"""Inspection of claim photos on the platform's own machine: what a file says about its origin, and where.

Needs the extra `evidence`. See `docs/evidence.md`.
"""
