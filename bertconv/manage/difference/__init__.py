"""The parts of `bertconv diff`: plain data, sums over elements, rows by token, changes from a base, the page."""
