"""Many requests of one kind: where their items come from, and what became of each."""
