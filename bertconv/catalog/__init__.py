"""Catalog: which outputs of bertconv lie in a folder tree or a bucket, as tables that can be asked.

folders (trees.py, remote.py) -> manifests (facts.py) -> rows (rows.py) -> tables (schema.py, databases.py)
-> answers (query.py)

The manifests are the truth. The tables are a cache of them, in memory unless a database is given.
"""

from bertconv.catalog.catalog import Catalog, Problem, Refreshed
from bertconv.catalog.query import Entry, Query

__all__ = ["Catalog", "Entry", "Problem", "Query", "Refreshed"]
