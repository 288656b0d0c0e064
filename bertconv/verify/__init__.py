"""Proof that two checkpoints are the same model: what each gives for the same inputs, and where they part."""
