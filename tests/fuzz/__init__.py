"""Fuzz all code that reads what a kernel sends, by mutation and guided by coverage.

For any input, these rules must hold:

- The library raises only the exceptions that the public docstrings name.
- It ends, and soon.
- It does not leak memory or descriptors.
- Two implementations that read the same input, such as layouts and the reference, agree.
"""
