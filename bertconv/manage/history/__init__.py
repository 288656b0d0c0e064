"""lineage(): which checkpoints a model was made of, and theirs, from the manifests of outputs.

manifest -> parents by digest -> folders with that digest -> their manifests -> ... -> Graph
"""

from bertconv.manage.history.graph import Edge, Graph, Model, Place
from bertconv.manage.history.walk import lineage

__all__ = ["Edge", "Graph", "Model", "Place", "lineage"]
