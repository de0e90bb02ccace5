"""Fuzzing of all that reads what a kernel sends: by mutation, and guided by coverage.

Whatever the bytes: nothing is raised but what the public docstrings name, nothing hangs, nothing
takes long, and no memory is kept. What reads an input in two ways reads the same.
"""
