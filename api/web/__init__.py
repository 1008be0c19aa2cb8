"""Common parts of pages for people: the console of the staff and /me of the consumers. No business logic."""
