"""Complete command lines in bash, zsh and fish.

:mod:`.scripts` makes the scripts from the parsers, with shtab. That is done when the wheel is built, so
that a shell starts no Python to complete a word. They are installed where each shell finds its
own, and in the folder :data:`.scripts.BUILT` of this package.
"""
