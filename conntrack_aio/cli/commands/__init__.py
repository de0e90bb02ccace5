"""The subcommands of ``conntrack-aio``, one module each.

Each module has a function ``add(commands)``, which adds the subcommand to the parser. It sets the
default ``run``: the function that gets the options and returns the exit status, or ``None`` for 0.
"""
