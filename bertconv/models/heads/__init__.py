"""Task heads over any body: what is computed for a task and which labels it has; a family adds its layers."""
