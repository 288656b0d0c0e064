"""A whole fleet under fire: `making` its checkpoints, `killing` workers and driver, `checking` what is there."""
