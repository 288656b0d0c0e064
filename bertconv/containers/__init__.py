"""The files that weights are stored in: one module per container, and `registry`, which knows all of them."""
