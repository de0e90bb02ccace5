"""The language of conntrack(8): its options, actions and output.

The same command line has the same exit status, output and messages as the program of
conntrack-tools 1.4.7 has, but for the differences in this list. Most of them are places where the
program acts on other entries than its manual page and its arguments say.

Arguments
---------

- Messages and ``-V`` name the version of this package, as in ``conntrack v1.0 (conntrack_aio)``.
- A value that is joined to an option whose value is optional is used, as in ``-n192.0.2.1``,
  ``--src-nat=192.0.2.1``, ``--label-del=web`` and ``-Fexpect``. The program ignores it. So it
  deletes all flows with a translated source, clears all labels, and flushes another table.
- Letters that are joined to an action and name no table are options, as in ``-Lo extended`` and
  ``-Dp udp``, and as version 1.4.9 reads them. Version 1.4.7 ignores them, and so lists or deletes
  all entries.
- ``ADDRESS/`` without a number of bits is an invalid netmask. The program takes it for ``/0``,
  which selects all addresses.

Selecting entries
-----------------

- ``-D`` with statuses that have to be clear, such as ``-u UNREPLIED`` and ``-u '!ASSURED'``,
  deletes the entries without these statuses. The program deletes the whole table.
- ``-u UNSET`` selects entries that have none of the statuses that ``-u`` has words for. The program
  fails with ``invalid parameters``.
- ``-m`` and ``-u`` may have any order. The program takes the number of a status that follows a
  mark for the mark, both to select and to create entries.
- ``-F -f FAMILY`` deletes the entries of this address family. The program deletes all entries.
- The keys of GRE, such as ``--srckey``, select entries. The program ignores them.
- ``-c`` selects entries by their security mark. The kernel reports the security context only, so
  that ``-c 0`` selects entries without one, and another number selects none. The program ignores
  the option.
- IPv6 addresses of ``-n``, ``-g`` and ``-j`` select entries. The program ignores them.
- An ICMP flow is translated only if an address is. To the program, each one that a NAT rule could
  have translated is, because its type differs between the directions.
- ``-U`` with ports of DCCP selects no entry whose ports the kernel does not report, as kernels
  without DCCP do. The program selects all of them.

Changing entries
----------------

- ``-D`` deletes the entry that it has found. The program names it by its original tuple. If one
  entry has the zone of a direction, this tuple may be the reply tuple of another entry, which the
  program then deletes instead.
- ``-U`` of several entries prints all of them as they are after the update. The program prints and
  counts only some.
- ``-U`` fails for an entry in a zone, because the program does not send the zone. If an entry
  outside of zones has the same tuple, the program changes that one instead.
- ``--label-del`` with the label 127 alone clears this label. The program clears all labels.
- ``-I expect`` creates an expectation of the protocol and ports that are given. The program always
  creates one of the protocol 40, without ports.
- ``-o save`` writes the mark, the labels and the ports of a translation, too, so that ``-R``
  restores them. It writes a timeout for an offloaded flow.
- ``-o xml`` escapes ``&``, ``<`` and ``>`` in names and in security contexts. The output of the
  program is not XML then.

Files of commands
-----------------

- Each line of a file for ``-R`` has its own mark and output options. The program applies those of
  the last line to the updates and to the output of all lines. If the last line has no mark, updates
  of marks are lost.
- Each line needs its own ``-p`` for the options of a protocol. The program also accepts those of
  the protocol of an earlier line.
- A file may have any number of lines with labels. The program crashes at the second one.
- A line may have any length. The program takes what follows 10,239 bytes of a line for another
  line, even in a comment.
- All deletions that follow each other are done after one dump of the table, and are printed in the
  order of the lines. The program dumps the table for each of them.

Events
------

- ``-E -b`` sets the size of the buffer that receives events. The program sets that of another
  socket.
- ``-o timestamp`` writes microseconds with zeros before them, as in ``[5.030270]``. The program
  writes blanks behind them, as in ``[5.30270 ]``.
- An event that cannot be decoded is reported on standard error.

Output
------

- Standard output that is closed or full is an error with the exit status 1, before anything is
  changed if it is so at the start. The program ignores it.
- A reader that closes the pipe, as ``head`` does, ends the command with the exit status 0. The
  program ends by SIGPIPE. SIGINT ends a command other than ``-E`` with the exit status 130.
"""
