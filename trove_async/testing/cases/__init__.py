"""The cases, one module per group. They register themselves when imported."""
