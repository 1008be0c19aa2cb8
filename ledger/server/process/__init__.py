"""Parts that every process of the server needs: background threads, batching, log lines, signals."""
