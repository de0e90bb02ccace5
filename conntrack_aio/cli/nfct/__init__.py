"""Implement the command ``nfct``, which takes the arguments of nfct(8).

It prints what nfct 1.4.7 prints, with the same exit status, except for the version's name.
It differs from nfct 1.4.7 where that does something else than its arguments ask:

- A timeout must be a decimal number of at most 2,147,483 seconds, which every kernel can count.
  nfct reads ``abc`` as 0, ``12abc`` as 12 and ``-1`` as 4,294,967,295. The kernel cuts off numbers
  that it cannot count: 17,179,870 is 0 where it ticks 250 times a second.
- A name must have at most 31 bytes, that of a helper 15. nfct shortens it, and so it can delete
  another object.
- A name must not be empty. nfct creates a policy that no rule can use.
- ``default-get timeout inet mptcp`` fails: the kernel has no such timeouts. nfct keeps 8 bits
  of the protocol's number 262, and prints the timeouts of TCP.
- An empty word is no abbreviation. To nfct, ``flush ""`` is ``flush timeout``.
- ``default-get timeout``, ``add helper`` and ``disable helper`` accept no further arguments. nfct
  ignores them, such as the number of a queue.
- ``get helper`` with a family fails if there is no such helper. nfct prints nothing and succeeds.
- It fails if the output cannot be written. nfct succeeds.
- The names of the protocols in :mod:`.protocols` need no ``/etc/protocols``.
- ``version`` prints this package's license.
"""
