"""What reader and writer share of how Flax uses msgpack."""

SEPARATOR = "."
"""Between the keys of maps within each other, in the name of a tensor."""
CHUNKED = "__msgpack_chunked_array__"
"""Key of a map that is one large array in flat pieces."""
ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Types of Flax's extensions."""
