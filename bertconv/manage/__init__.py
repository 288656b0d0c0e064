"""What is done with checkpoints beside converting them: one module for each verb, named after it."""
