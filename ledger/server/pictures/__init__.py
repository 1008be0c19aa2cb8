"""Search for reused pictures, and the list of common ones."""
