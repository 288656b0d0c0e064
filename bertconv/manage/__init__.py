"""Verbs that make a checkpoint of others, or say something about them: one module each, called by its verb."""
