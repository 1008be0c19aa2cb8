"""XMP (ISO 16684-1) as a flat list of properties, read by expat with everything dangerous switched off.

Expat itself, and no package around it: a document type or an entity declaration ends the parse at once, external
entities are never followed, and depth, properties and bytes are counted here. RDF's containers are looked through, so
that a property's value is found whether it was written as an element, an attribute, a list or a structure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from ledger.evidence.formats.metadata import NoteCode, ParsedFile
from ledger.evidence.limits import (
    MAX_TEXT_BYTES,
    MAX_XMP_BYTES,
    MAX_XMP_DEPTH,
    MAX_XMP_ELEMENTS,
    MAX_XMP_PROPERTIES,
)

AIGC = "http://www.tc260.org.cn/ns/AIGC/1.0/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
BASIC = "http://ns.adobe.com/xap/1.0/"
EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
NOTE = "http://ns.adobe.com/xmp/note/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
DC_TERMS = "http://purl.org/dc/terms/"
_META = "adobe:ns:meta/"
_SPLIT = "\n"
"""Between namespace and name: no namespace holds a line feed once the parser has normalised it."""


@dataclass(frozen=True, slots=True)
class Property:
    """A property with its value; one for each item of a list."""

    namespace: str
    name: str
    value: str


@dataclass(slots=True)
class Xmp:
    """The properties of one packet, and where it stood."""

    where: str
    properties: list[Property] = field(default_factory=list)
    raw: bytes = b""
    complete: bool = False
    """Whether it was well-formed to its end."""

    def values(self, namespace: str, name: str) -> list[str]:
        """Return the values of one property, in order."""
        return [prop.value for prop in self.properties if prop.namespace == namespace and prop.name == name]


class _Refused(Exception):
    """The packet is not what an XMP packet may be."""


def parse(data: bytes, where: str, parsed: ParsedFile) -> Xmp:
    """Return the properties of a packet; up to the first fault if there is one, with a note."""
    if len(data) > MAX_XMP_BYTES:
        parsed.note(NoteCode.PIECE_TOO_LARGE, where, f"{len(data)} bytes of XMP")
        return Xmp(where)
    packet = Xmp(where, raw=data)
    collector = _Collector(packet)
    try:
        collector.parse(data)
        packet.complete = True
    except _Refused as error:
        parsed.note(NoteCode.XMP_UNREADABLE, where, str(error))
    except expat.ExpatError as error:
        parsed.note(NoteCode.XMP_UNREADABLE, where, f"line {error.lineno}")
    except (ValueError, LookupError):  # an encoding that Python does not know
        parsed.note(NoteCode.XMP_UNREADABLE, where, "encoding")
    return packet


class _Collector:
    def __init__(self, packet: Xmp) -> None:
        self._packet = packet
        self._open: list[tuple[str, str]] = []
        """(namespace, name) of the property of each open element."""
        self._text: list[str] = []
        self._kept_chars = 0
        self._elements = 0

    def parse(self, data: bytes) -> None:
        """Parse the whole packet."""
        parser = expat.ParserCreate(namespace_separator=_SPLIT)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.Parse(data.strip(b"\0 \t\r\n"), True)

    def _refuse(self, *_: object) -> int:
        raise _Refused("a document type or an entity")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if len(self._open) >= MAX_XMP_DEPTH or self._elements > MAX_XMP_ELEMENTS:
            raise _Refused("depth or number of elements")
        namespace, name = _names(tag)
        if namespace in (RDF, _META) and self._open:
            namespace, name = self._open[-1]
        self._open.append((namespace, name))
        self._text.clear()
        for key, value in attributes.items():
            space, own = _names(key)
            if space == RDF and own == "resource":
                self._keep(namespace, name, value)
            elif space not in (RDF, _META, ""):
                self._keep(space, own, value)

    def _end(self, _tag: str) -> None:
        namespace, name = self._open.pop()
        text = "".join(self._text).strip()
        self._text.clear()
        if text:
            self._keep(namespace, name, text)

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _keep(self, namespace: str, name: str, value: str) -> None:
        self._kept_chars += len(value)
        if len(self._packet.properties) >= MAX_XMP_PROPERTIES or self._kept_chars > MAX_TEXT_BYTES:
            raise _Refused("properties")
        self._packet.properties.append(Property(namespace, name, value))


def _names(tag: str) -> tuple[str, str]:
    namespace, separator, name = tag.rpartition(_SPLIT)
    return (namespace, name) if separator else ("", tag)
