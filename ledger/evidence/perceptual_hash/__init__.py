"""Decoding of pictures and their perceptual hash (PDQ)."""
