"""Traces of image generators in texts: IPTC's source type, generation parameters, workflows, names of software.

None of these is signed and none names a person or company that could be asked, so they indicate and never identify.
Free texts that people write (titles, descriptions) are not searched for names of generators: mentioning one proves
nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ledger.evidence.findings import InspectionFinding, finding, folded
from ledger.evidence.formats import xmp
from ledger.evidence.formats.exif import Exif
from ledger.evidence.formats.metadata import MetadataBlock, decode
from ledger.evidence.limits import MAX_TEXT_BYTES
from ledger.evidence.signals.source_types import AI_COMPOSITES, AI_MADE, ALGORITHMIC, source_type
from ledger.rules.findings import FindingCode

GENERATORS = (
    *("midjourney", "stable diffusion", "stable-diffusion", "automatic1111", "comfyui", "invokeai", "novelai"),
    *("dall-e", "dall·e", "adobe firefly", "adobe_firefly", "fooocus", "draw things", "diffusionbee", "swarmui"),
    *("leonardo.ai", "ideogram", "made with google ai", "gpt-image", "bing image creator", "flux.1"),
    *("tensor.art", "civitai", "dreamstudio", "豆包", "即梦", "通义万相", "文心一格", "可灵", "liblibai"),
)
"""Names that software fields of generators hold, as whole words, without regard to case."""

_NAMES = re.compile(r"(?<!\w)(?:" + "|".join(re.escape(name) for name in GENERATORS) + r")(?![a-z])")
_PARAMETERS = re.compile(r"\bSteps: ?\d{1,5}\b")
_MORE_PARAMETERS = re.compile(r"\b(?:Sampler|Seed|CFG scale|Model hash): ?\S")
_OWN_KEYS = {
    "sd-metadata": "InvokeAI",
    "invokeai_metadata": "InvokeAI",
    "dream": "InvokeAI",
    "sui_image_params": "SwarmUI",
    "fooocus_scheme": "Fooocus",
    "generation_data": "TensorArt",
}
"""Keys of PNG texts that only one generator uses."""

SOFTWARE_KEYS = frozenset({"software", "source", "©swr", "©too", "com.apple.quicktime.software", "encoder"})
"""Keys of texts that name the program which wrote the file, folded."""

_MIDJOURNEY = re.compile(r"Job ID: [0-9a-f]{8}-[0-9a-f]{4}-")


def in_texts(blocks: Iterable[MetadataBlock]) -> Iterator[InspectionFinding]:
    """Yield the findings in texts with keys: PNG chunks, MP4 lists."""
    for block in blocks:
        key, where = folded(block.key), f"{block.where} {block.key}"
        text = decode(block.data[:MAX_TEXT_BYTES])
        if key in _OWN_KEYS:
            yield finding(FindingCode.GENERATOR_PARAMETERS, where, generator=_OWN_KEYS[key])
        elif key in ("prompt", "workflow"):
            yield from _workflow(text, where)
        elif key in SOFTWARE_KEYS:
            yield from _named(text, where)
        elif key == "description" and _MIDJOURNEY.search(text[:5_000]):
            yield finding(FindingCode.GENERATOR_PARAMETERS, where, generator="Midjourney")
        elif key in ("parameters", "comment", "usercomment"):
            yield from _parameters(text, where)


def in_exif(exif: Exif, where: str) -> Iterator[InspectionFinding]:
    """Yield the findings in EXIF: parameters in the comment, workflows in the fields that ComfyUI uses in WebP, names
    of software."""
    yield from _parameters(exif.comment, f"{where} UserComment")
    for tag in ("Make", "Model", "ImageDescription"):
        name, separator, rest = exif.texts.get(tag, "").partition(":")
        if separator and folded(name) in ("prompt", "workflow"):
            yield from _workflow(rest, f"{where} {tag}")
    for tag in ("Software", "ProcessingSoftware", "ImageEditingSoftware", "HostComputer"):
        yield from _named(exif.texts.get(tag, ""), f"{where} {tag}")
    yield from _parameters(exif.texts.get("ImageDescription", ""), f"{where} ImageDescription")


def in_xmp(packet: xmp.Xmp) -> Iterator[InspectionFinding]:
    """Yield the findings in XMP: the source type, IPTC's names of AI systems, software, credit lines."""
    where = f"{packet.where} xmp"
    for value in packet.values(xmp.IPTC_EXT, "DigitalSourceType"):
        source = source_type(value)
        if source in AI_MADE:
            yield finding(FindingCode.IPTC_AI_GENERATED, where, source_type=source)
        elif source in AI_COMPOSITES:
            yield finding(FindingCode.IPTC_AI_EDITED, where, source_type=source)
        elif source in ALGORITHMIC:
            yield finding(FindingCode.IPTC_ALGORITHMIC, where, source_type=source)
    for value in packet.values(xmp.IPTC_EXT, "AISystemUsed"):
        yield finding(FindingCode.GENERATOR_NAMED, f"{where} AISystemUsed", name=value)
    software = ((xmp.BASIC, "CreatorTool"), (xmp.TIFF, "Software"), (xmp.PHOTOSHOP, "Credit"))
    for namespace, name in software:
        for value in packet.values(namespace, name):
            yield from _named(value, f"{where} {name}")
    for value in packet.values(xmp.EXIF, "UserComment"):
        yield from _parameters(value, f"{where} UserComment")


def _named(text: str, where: str) -> Iterator[InspectionFinding]:
    match = _NAMES.search(folded(text[:1_000]))
    if match is not None:
        yield finding(FindingCode.GENERATOR_NAMED, where, name=match[0], value=text)


def _parameters(text: str, where: str) -> Iterator[InspectionFinding]:
    """Yield a finding for text in the form of the web interfaces of Stable Diffusion; a step count alone proves
    nothing."""
    text = text[:MAX_TEXT_BYTES]
    steps = _PARAMETERS.search(text)
    if steps is not None and _MORE_PARAMETERS.search(text):
        yield finding(FindingCode.GENERATOR_PARAMETERS, where, parameters=text[steps.start() : steps.start() + 200])
    elif text.lstrip().startswith("{"):
        value = _json(text)
        if isinstance(value, dict) and {"steps", "sampler"} <= value.keys() and value.keys() & {"seed", "c", "prompt"}:
            yield finding(FindingCode.GENERATOR_PARAMETERS, where, parameters=f"steps {value['steps']}")


def _workflow(text: str, where: str) -> Iterator[InspectionFinding]:
    """Yield a finding for a graph of ComfyUI: nodes by number with `class_type`, or a list `nodes` with `type`."""
    value = _json(text)
    if not isinstance(value, dict):
        return
    nodes = value.get("nodes") if isinstance(value.get("nodes"), list) else list(value.values())
    graph = [node for node in (nodes or [])[:2_000] if isinstance(node, dict)]
    kinds = [kind for kind in (str(node.get("class_type") or node.get("type") or "") for node in graph) if kind]
    samplers = sorted({kind for kind in kinds if "sampler" in kind.lower()})
    if samplers:
        yield finding(FindingCode.GENERATOR_WORKFLOW, where, samplers=samplers, nodes=len(kinds))
    elif kinds:
        yield finding(FindingCode.WORKFLOW_WITHOUT_SAMPLER, where, nodes=len(kinds))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
