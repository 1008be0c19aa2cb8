"""How much of a file is read: every number that keeps an inspection bounded, whatever the file claims.

Lengths inside a file are untrusted. Readers compare them with the bytes that are there, and stop with a note at the
first limit. What is skipped is stated in the receipt, so that "nothing found" never hides "not looked at".
"""

from __future__ import annotations

MAX_FILE_BYTES = 128 * 2**20
"""A larger file is refused: it is read into memory, so that what is hashed is what is inspected."""

MAX_JPEG_SEGMENTS = 1_000
MAX_SCANS = 64
"""Progressive encoders write about ten scans; thousands of them make a decoder work for minutes."""

MAX_CHUNKS = 50_000
"""Chunks of a PNG or WebP. Encoders that write 8 KiB of pixels a chunk stay below it up to the largest file."""

MAX_BOXES = 20_000
MAX_BOX_DEPTH = 8
MAX_ITEMS = 2_000
"""Keys, items and locations that the tables of an MP4 or HEIC file may list."""

MAX_METADATA_BLOCKS = 256
"""Blocks of metadata kept of one file."""

MAX_PARSED_BLOCKS = 8
"""XMP packets of one file, and EXIF blocks: parsing one at its limits takes a quarter of a second."""

MAX_TEXT_BYTES = 2**20
"""One text, as it is in the file or inflated: a ComfyUI workflow has some hundred kilobytes."""

MAX_INFLATED_BYTES = 4 * 2**20
"""All compressed texts of one file together, inflated."""

MAX_XMP_BYTES = 2 * 2**20
MAX_XMP_DEPTH = 32
MAX_XMP_ELEMENTS = 50_000
MAX_XMP_PROPERTIES = 20_000
MAX_EXIF_BYTES = 2**20
MAX_IFD_ENTRIES = 512
MAX_IFDS = 8
MAX_VALUE_BYTES = 64 * 2**10
"""One EXIF value other than the thumbnail."""

MAX_RECORD_CHARS = 64 * 2**10
"""One AIGC record; real ones have some hundred characters."""

MAX_RECORDS = 32

MAX_MANIFEST_BYTES = 16 * 2**20
"""A C2PA manifest store; real ones, with thumbnails, have some hundred kilobytes."""

MAX_MANIFEST_JSON_BYTES = 8 * 2**20
C2PA_SECONDS = 20.0
C2PA_MEMORY_BYTES = 2 * 2**30
"""Address space of the process that reads a manifest, beside the file itself."""

MAX_PIXELS = 89_000_000
"""Larger pictures are not decoded; phones take 12 to 50 megapixels as a rule. Pillow warns from here on."""

MAX_PROGRESSIVE_PIXELS = 60_000_000
"""A progressive JPEG keeps all its coefficients while it is decoded, whatever the size asked for."""

MAX_LISTINGS = 16
"""Listing photos that one inspection compares; each takes about a second."""

MAX_THUMBNAIL_PIXELS = 4_000_000

MAX_FACT_CHARS = 200
MAX_FACTS_LISTED = 20
MAX_FINDINGS = 64
MAX_NOTES = 64

INSPECTION_SECONDS = 45.0
"""Clock of a whole inspection where a server has it made in a process of its own
(`ledger.evidence.sandbox.inspection`); an honest picture takes less than one."""

INSPECTION_MEMORY_BYTES = 3 * 2**30
"""Address space of that process, beside the files: one that reads a manifest in its turn has less."""

MAX_ANSWER_BYTES = 16 * 2**20
"""What that process may answer: a receipt has some kilobytes, a picture of a match a few megabytes."""
