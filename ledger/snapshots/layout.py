"""Sizes of a snapshot's parts, which its manifest, its buckets and its sealed entries share."""

from __future__ import annotations

ENTRY_BYTES = 128
"""A sealed entry."""

VERSION_BYTES = 16
"""The version of a snapshot, which the first of its bytes in every bucket repeat."""

CAPACITY_STEP = 64
"""The number of entries that a bucket holds is a multiple of this."""

MAX_CAPACITY = 2**16
"""Entries in a bucket, at most."""

MAX_BITS = 20
"""Bits of a tag that name its bucket, at most: there are 2^20 buckets."""
