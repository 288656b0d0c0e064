"""What is done with checkpoints beside converting and verifying them: one module for each command, named after it."""
