"""Key rotation: every listed person gets a new pseudonym under a new key; no identifier is needed for this.

A crash can leave each stage half-done; running the stage again finishes it (docs/rotation.md):

- announce (`announce`): creates the key file of the next epoch and its row, appends a `key_rotation` entry, and grants
  elements to every platform;
- fill (`fill`): writes rows of `subject` and `listing` under the next epoch, in chunks. Each chunk is a short
  transaction that holds the log's head, so that no withdrawal or restitution happens between reading and writing;
- prove (`audit`): writes batch files for an auditor;
- switch (`run`): one transaction under the head converts and proves the reports that were recorded meanwhile, checks
  that no row is missing, appends the second `key_rotation` entry with the Merkle root, and makes the next epoch the
  current one;
- retire and destroy (`retire`), after the grace period: append the third entry, and later delete all data of the old
  epoch.

The database shows what has been done; what is left to do follows from the data alone.
"""
