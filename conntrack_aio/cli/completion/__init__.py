"""Complete command lines in bash, zsh and fish.

:mod:`.scripts` makes a script for each shell from the parsers, with shtab. It does so when the
wheel is built, so that a shell starts no Python to complete a word. The scripts are installed where
shells search for them, and in the folder :data:`.scripts.BUILT` of this package.
"""
