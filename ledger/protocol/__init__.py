"""The cryptographic protocol, pure: identifiers, blinded evaluation, tags, and the encodings that all sides share."""
