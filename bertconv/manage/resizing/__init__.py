"""The parts of `resize`: which row becomes which, what new rows are, and how tables are streamed."""
