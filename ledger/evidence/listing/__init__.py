"""Comparison of a picture with the photo of a listing."""
