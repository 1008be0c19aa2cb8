"""The identity of a platform and of the service it uses: keys, tokens, the pinned suite, key epochs."""
