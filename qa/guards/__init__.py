"""Checks of the readers and the writer, deleted one at a time: `find` finds them, `bench` runs tests without them."""
