"""Readers of file formats: pictures, videos and the metadata blocks inside them."""
