"""The transparency log, pure: entries, Merkle tree, checkpoints, proofs, and the check of key rotations."""
