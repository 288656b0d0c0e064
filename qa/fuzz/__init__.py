"""Mutated files for every reader: `campaign` runs them, `runs` is one input, `mutations` makes it for `targets`."""
