"""The claim, as tests: no single party can name a listed person.

A consortium is set up for real (`consortium`): three organisations make the key 2 of 3 with the commands of the
ceremonies, refresh it, and run a `holder serve` each; a ledger server takes the reports of members; one of the three
holders is the operator's. All connections go through recording proxies. A hundred identifiers among ten thousand
candidates are listed. Then two claims are tested.

**Offline** (`test_offline`): the attacker program (`attacker`) is a function from everything that a party has to the
candidates that it can name. Everything is: all files at every offset, logs, traffic in clear, and memory images of the
party's running processes. It names 0 of 100 for the operator with its own holder, for each single holder, for a member
beyond what its budget bought, and for a thief of all backups; each of them gets the ledger's database too. The same
program names 100 of 100 for any two holders, and when one share is leaked into a log, a file, a recorded connection or
a process's memory, so the test can fail.

**Online** (`test_online`): with ghost platforms that only the ledger knows, its own member platforms, grants, every
mixture of holders and every budget spent to the end, a party gets exactly the number of elements that `holder status`
of the holders said before: n / t times the budget, (n - 1) / (t - 1) times with a share of its own. A suspension, a
used token, a second process and a second generation of the key give nothing beyond.

What the tests do not show: that another program finds nothing. For that there is the algebraic argument in
docs/protocol.md. The attacker searches files at every offset, memory for texts of 32 bytes and for Python's byte
strings of 32 bytes; beyond that the tests, which know the true shares, look for them in memory in all usual encodings.
"""
