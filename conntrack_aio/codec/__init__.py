"""Between the model and bytes: everything here is derived from the model's declarations."""
