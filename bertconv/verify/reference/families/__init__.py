"""One file for each family that has a mapping table, of the table's name: what the reference has to know of it."""
