"""The check of a log's key holders, entry by entry."""

from __future__ import annotations

from ledger.errors import InvalidLeaf, LedgerError, NewerFormat
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.entries import GovernanceType, Leaf
from ledger.tlog.key_history import KeyHistory


class KeyAudit:
    """Checks all `key_rotation` entries of a log, in order: every sharing of a key is signed by all its holders, and
    follows the one before with the agreement of at least its threshold of holders."""

    def __init__(self) -> None:
        self.history = KeyHistory(verify_multiple)

    def see(self, leaf: Leaf) -> None:
        """Check the next leaf of the log. Raises InvalidLeaf; NewerFormat for a statement of a later version."""
        if leaf.type != GovernanceType.KEY_ROTATION or leaf.body is None:
            return
        try:
            self.history.see(leaf.index, leaf.body)
        except NewerFormat:
            raise
        except LedgerError as error:
            raise InvalidLeaf(f"The log names key holders against the rules: {error}", index=leaf.index) from error
