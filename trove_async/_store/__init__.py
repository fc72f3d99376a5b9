"""Inside the store: one home for each thing it does to a target. `_trove` brings them together."""
