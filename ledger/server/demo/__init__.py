"""The demonstration, and the replay of foreign tables."""
