"""Complete command lines in bash, zsh and fish.

:mod:`.scripts` makes the scripts from the parsers, with shtab. The build of a distribution does that,
and so a shell starts no Python to complete a word. The script of each shell is installed where the
shell finds it, and in the folder :data:`.scripts.BUILT` of this package.
"""
