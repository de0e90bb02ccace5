"""Forms of records as text: each module writes all kinds of records in one form."""
