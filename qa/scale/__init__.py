"""What a fleet costs: the real scheduler with a fake clock, and machines, a network and a Hub that are modelled."""
