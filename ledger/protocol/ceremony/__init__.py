"""Key ceremonies: how holders make, refresh, move and rotate the shares of a key that no machine ever holds. Pure.

`session` names what all participants agree on beforehand, `rounds` has the three steps of every ceremony (`deal`,
`certify`, `finish`), and `cocktail`, `refresh`, `reshare` and `rotation` say what is particular to each kind.
`ciphersuite`, `dealing` and `envelope` hold signatures and encryption, a dealer's message, and the signed frame around
every message. Random bytes are arguments, and the same arguments give the same messages.
"""
