"""The server: one folder for each feature, ordered by an import contract (pyproject.toml)."""
