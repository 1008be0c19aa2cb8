"""The keys of the server: files, sealing of stored secrets, key epochs."""
