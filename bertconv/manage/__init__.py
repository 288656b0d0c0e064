"""What is done with checkpoints beside converting and comparing them; one module for every command."""
