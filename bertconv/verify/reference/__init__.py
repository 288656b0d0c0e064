"""The PyTorch reference: which weight a name stands for, and the forward pass. Imports torch."""

from bertconv.verify.reference.family import Family, family_names, family_of
from bertconv.verify.reference.model import Reference
from bertconv.verify.reference.modules import State, Watch
from bertconv.verify.reference.names import canonical_names

__all__ = ["Family", "Reference", "State", "Watch", "canonical_names", "family_names", "family_of"]
