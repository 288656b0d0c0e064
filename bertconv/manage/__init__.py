"""The verbs that manage checkpoints: each reads some and says something of them, or makes another."""
