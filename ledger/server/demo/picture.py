"""The demo's photo: fictitious, with China's label for AI-generated content, and a copy of it as a chat forwards it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ledger.server.demo.texts import PRODUCER

SIDE_PX = 640
COPY_SIDE_PX = SIDE_PX * 60 // 100
COPY_QUALITY = 80


def labelled_photo(path: Path) -> None:
    """Write a PNG with random blotches of several sizes, different at each call, and the label in its metadata."""
    generator = np.random.default_rng(secrets.randbits(64))
    blotches = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32)
    for cells in (5, 11, 40):
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), np.uint8))
        blotches += np.asarray(coarse.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC), np.float32) / 3
    label = {
        "Label": "1",
        "ContentProducer": PRODUCER,
        "ProduceID": f"demo-{secrets.token_hex(8)}",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    metadata = PngInfo()
    metadata.add_text("AIGC", json.dumps(label))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blotches.astype(np.uint8)).save(path, pnginfo=metadata)


def passed_on(photo: Path, copy: Path) -> None:
    """Write the picture of `photo` at 60 % of its size as a JPEG without metadata, as chats forward pictures."""
    with Image.open(photo) as image:
        smaller = image.convert("RGB").resize((COPY_SIDE_PX, COPY_SIDE_PX), Image.Resampling.LANCZOS)
    smaller.save(copy, "JPEG", quality=COPY_QUALITY)
