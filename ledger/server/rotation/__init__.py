"""Key rotation: every listed person gets a new pseudonym under a new key, and nobody's identifier is needed for it.

Each stage can be found half-done after a crash and is finished by running it again (docs/rotation.md):

- announce (`announce`): the key file of the next epoch, its row, a `key_rotation` entry, a grant to every platform;
- fill (`fill`): rows of `subject` and `listing` under the next epoch, in pieces, each in a short transaction that holds
  the log's head, so that no withdrawal or restitution comes between reading and writing;
- prove (`audit`): batch files for an auditor;
- switch (`run`): one transaction under the head turns and proves what came in meanwhile, asserts that no row is
  missing, appends the second `key_rotation` entry with the Merkle root, and makes the next epoch the current one;
- retire and destroy (`retire`), when the grace is over: the third entry, and after a while all that is old goes.

What has been done is in the database; what is left to do follows from the data alone.
"""
