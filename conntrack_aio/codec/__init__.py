"""Encode and decode the objects of the model, as their classes are declared."""
