"""Small files of every container, built byte by byte, so that a test states exactly what is in them."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

from PIL import Image

LABEL = (
    '{"Label":"1","ContentProducer":"001191440300708461136T1XGW3","ProduceID":"p-1","ReservedCode1":"",'
    '"ContentPropagator":"","PropagateID":"","ReservedCode2":""}'
)
AIGC_NS = "http://www.tc260.org.cn/ns/AIGC/1.0/"
IPTC_NS = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def escaped(text: str) -> str:
    """`text` for XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def packet(inner: str = "", attributes: str = "") -> bytes:
    """An XMP packet around properties."""
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:T="{AIGC_NS}" xmlns:I="{IPTC_NS}" {attributes}>{inner}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def plain_packet(inner: str = "", attributes: str = "") -> bytes:
    """The same without the namespace of China's label."""
    return packet(inner, attributes).replace(f' xmlns:T="{AIGC_NS}"'.encode(), b"")


def label_packet(label: str = LABEL) -> bytes:
    """An XMP packet with China's label."""
    return packet(f"<T:AIGC>{escaped(label)}</T:AIGC>")


def source_packet(source: str) -> bytes:
    """An XMP packet with a digital source type."""
    return plain_packet(f"<I:DigitalSourceType>{SOURCES}{source}</I:DigitalSourceType>")


def picture(width: int = 64, height: int = 48, seed: int = 1) -> Image.Image:
    """A picture with shapes in it, no two seeds alike."""
    return _drawn(width, height, seed).copy()


@cache
def _drawn(width: int, height: int, seed: int) -> Image.Image:
    """The picture of `picture`, drawn once."""
    image = Image.new("RGB", (width, height))
    image.putdata(
        [
            ((x * 5 * seed + y) % 256, (y * 7 + seed * 40) % 256, (x * y * seed // 8) % 256)
            for y in range(height)
            for x in range(width)
        ]
    )
    return image


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """An image as a file's bytes; a PNG is compressed little, which takes a tenth of the time."""
    out = io.BytesIO()
    if form == "PNG":
        options.setdefault("compress_level", 1)
    image.save(out, form, **options)
    return out.getvalue()


# --- JPEG -----------------------------------------------------------------------------------------------------


def segment(marker: int, body: bytes) -> bytes:
    """One JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def xmp_segment(content: bytes) -> bytes:
    """XMP as JPEG carries it."""
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + content)


def exif_segment(block: bytes) -> bytes:
    """EXIF as JPEG carries it."""
    return segment(0xE1, b"Exif\0\0" + block)


def jpeg(*segments: bytes, image: Image.Image | None = None, **options: object) -> bytes:
    """A JPEG with these segments behind its start."""
    plain = saved(image or picture(), "JPEG", **options)
    return plain[:2] + b"".join(segments) + plain[2:]


# --- PNG ------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, image: Image.Image | None = None) -> bytes:
    """A PNG with these chunks behind its header."""
    plain = saved(image or picture(), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def text_chunk(key: str, text: bytes) -> bytes:
    """tEXt."""
    return chunk(b"tEXt", key.encode("latin-1") + b"\0" + text)


def compressed_chunk(key: str, text: bytes) -> bytes:
    """zTXt."""
    return chunk(b"zTXt", key.encode("latin-1") + b"\0\0" + zlib.compress(text))


def international_chunk(key: str, text: bytes, compressed: bool = False) -> bytes:
    """iTXt."""
    return chunk(
        b"iTXt",
        key.encode("latin-1")
        + (b"\0\1\0" if compressed else b"\0\0\0")
        + b"\0\0"
        + (zlib.compress(text) if compressed else text),
    )


# --- WebP -----------------------------------------------------------------------------------------------------


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    """One RIFF chunk, padded."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def webp(*chunks: bytes, flags: int = 0, image: Image.Image | None = None) -> bytes:
    """An extended WebP with these chunks behind its pixels."""
    image = image or picture()
    plain = saved(image, "WEBP", lossless=True)
    head = bytes([flags, 0, 0, 0]) + (image.width - 1).to_bytes(3, "little") + (image.height - 1).to_bytes(3, "little")
    body = b"WEBP" + riff_chunk(b"VP8X", head) + plain[12:] + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# --- MP4, HEIC --------------------------------------------------------------------------------------------------


def box(kind: bytes, *bodies: bytes) -> bytes:
    """One box."""
    body = b"".join(bodies)
    return struct.pack(">I", len(body) + 8) + kind + body


def keys_meta(pairs: dict[str, str], iso: bool = True) -> bytes:
    """A `meta` box with QuickTime's keys and their values."""
    keys = b"".join(struct.pack(">I", len(key.encode()) + 8) + b"mdta" + key.encode() for key in pairs)
    values = b"".join(
        box(struct.pack(">I", number), box(b"data", struct.pack(">II", 1, 0), value.encode()))
        for number, value in enumerate(pairs.values(), 1)
    )
    handler = box(b"hdlr", b"\0" * 8 + b"mdta" + b"\0" * 13)
    inner = handler + box(b"keys", struct.pack(">II", 0, len(pairs)), keys) + box(b"ilst", values)
    return box(b"meta", (b"\0" * 4 if iso else b"") + inner)


def track(width: int = 640, height: int = 480) -> bytes:
    """A track that has a size, and no samples."""
    return box(b"trak", box(b"tkhd", b"\0" * 76 + struct.pack(">II", width << 16, height << 16)))


def mp4(*in_udta: bytes, brand: bytes = b"isom", top: bytes = b"") -> bytes:
    """A film with boxes in its user data and others beside `moov`."""
    head = box(b"ftyp", brand, b"\0\0\2\0", brand)
    return head + box(b"mdat", b"pixels") + box(b"moov", track(), box(b"udta", *in_udta)) + top


def heic(exif: bytes = b"", xmp: bytes = b"", brand: bytes = b"heic", in_idat: bool = False) -> bytes:
    """A still picture with EXIF and XMP items and no pixels."""
    head = box(b"ftyp", brand, b"\0\0\0\0", b"mif1", brand)
    items = [(1, b"Exif", b"", struct.pack(">I", 0) + exif), (2, b"mime", b"application/rdf+xml\0", xmp)]
    entries = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", number, 0) + kind + b"\0" + more)
        for number, kind, more, _ in items
    )
    data = b"".join(content for *_, content in items)

    def meta(start: int) -> bytes:
        at, places = start, b""
        for number, _, _, content in items:
            places += struct.pack(">HHHHII", number, int(in_idat), 0, 1, at, len(content))
            at += len(content)
        return box(
            b"meta",
            b"\0" * 4,
            box(b"hdlr", b"\0" * 8 + b"pict" + b"\0" * 13),
            box(b"iprp", box(b"ipco", box(b"ispe", b"\0" * 4 + struct.pack(">II", 64, 48)))),
            box(b"iinf", b"\0\0\0\0" + struct.pack(">H", len(items)), entries),
            box(b"iloc", b"\1\0\0\0" + b"\x44\x00" + struct.pack(">H", len(items)), places),
            box(b"idat", data) if in_idat else b"",
        )

    if in_idat:
        return head + meta(0)
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", data)


# --- EXIF -----------------------------------------------------------------------------------------------------


def exif(
    texts: dict[int, bytes] | None = None,
    *,
    comment: bytes = b"",
    size: tuple[int, int] | None = None,
    thumbnail: bytes = b"",
    order: str = "<",
) -> bytes:
    """A TIFF structure with texts in the first IFD, comment and size in the second, a thumbnail in the third."""
    main = {tag: (2, len(text) + 1, text + b"\0") for tag, text in (texts or {}).items()}
    sub: dict[int, tuple[int, int, bytes]] = {}
    if comment:
        sub[0x9286] = (7, len(comment), comment)
    if size:
        sub[0xA002], sub[0xA003] = ((4, 1, struct.pack(f"{order}I", item)) for item in size)
    small = {0x0201: (4, 1, b""), 0x0202: (4, 1, struct.pack(f"{order}I", len(thumbnail)))} if thumbnail else {}
    if sub:
        main[0x8769] = (4, 1, b"")
    tables = [main, sub, small]
    sizes = [
        2 + 12 * len(table) + 4 + sum(len(value) for *_, value in table.values() if len(value) > 4) for table in tables
    ]
    starts = [8, 8 + sizes[0], 8 + sizes[0] + sizes[1]]
    if sub:
        main[0x8769] = (4, 1, struct.pack(f"{order}I", starts[1]))
    if small:
        small[0x0201] = (4, 1, struct.pack(f"{order}I", starts[2] + sizes[2]))
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    for number, table in enumerate(tables):
        after = starts[2] if number == 0 and small else 0
        out += _directory(table, starts[number], after, order)
    return out + thumbnail


def _directory(table: dict[int, tuple[int, int, bytes]], start: int, after: int, order: str) -> bytes:
    at = start + 2 + 12 * len(table) + 4
    entries, values = b"", b""
    for tag, (kind, count, value) in sorted(table.items()):
        entries += struct.pack(f"{order}HHI", tag, kind, count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", at + len(values))
            values += value
    return struct.pack(f"{order}H", len(table)) + entries + struct.pack(f"{order}I", after) + values
