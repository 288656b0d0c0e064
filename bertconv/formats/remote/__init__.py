"""Outputs in object stores: no local copy, bounded memory, and the manifest, which is written last, is the commit.

- `site`: a folder of a store, and what is done with its files
- `lock`: who writes a destination; it also says what a killed run has left there
- `flow`: files that are written in anonymous memory, sent from their beginning, and forgotten behind it
- `stream`: the tensors of an output, written in the order of its files
- `replacing`: an earlier output replaced, and what killed runs left put in order
- `folder`: the folder that an output is written to
"""
