"""IPTC's vocabulary of digital source types: the origin of a picture, in one word."""

from __future__ import annotations

import re

AI_MADE = frozenset({"trainedAlgorithmicMedia"})
"""Made by a trained model as a whole."""

AI_COMPOSITES = frozenset({"compositeWithTrainedAlgorithmicMedia"})
"""Something else, changed or extended by a trained model: phones write it for a generative eraser and for zoom."""

ALGORITHMIC = frozenset({"algorithmicMedia"})
"""Made by an algorithm that was not trained: a chart, a fractal."""

CAPTURES = frozenset({"digitalCapture", "computationalCapture"})

_FORM = re.compile(
    r"(?:https?://(?:cv\.iptc\.org/newscodes|c2pa\.org)/digitalsourcetype/|digsrctype:)?([A-Za-z]{1,60})/?\Z"
)


def source_type(value: str) -> str:
    """Return the bare word of a source type, which is written as an address or alone; empty for anything else."""
    match = _FORM.match(value.strip())
    return match[1] if match else ""
