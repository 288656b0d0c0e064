"""Many checkpoints at once: lists of them, their reports, and what they share of the Hub's patience."""
