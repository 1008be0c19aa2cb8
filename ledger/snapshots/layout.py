"""Sizes of a snapshot's parts, used by manifest, buckets and sealed entries."""

from __future__ import annotations

ENTRY_BYTES = 128
"""Bytes of a sealed entry."""

VERSION_BYTES = 16
"""Bytes of a snapshot's version, which names it."""

CAPACITY_STEP = 64
"""A bucket's capacity is a multiple of this number of entries."""

MAX_CAPACITY = 2**16
"""The largest capacity of a bucket, in entries."""

MAX_BITS = 20
"""Bits of a tag that select its bucket, at most: there are at most 2^20 buckets."""
