"""Checkpoints managed: one module for each verb, named by it."""
