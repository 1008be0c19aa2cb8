"""The HTTP interface of a key holder's service."""
