"""What pages for people share: the console of the staff and /me of the consumers. No business logic."""
