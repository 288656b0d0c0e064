"""The classes of every family, one file each, called like the family's mapping table."""
