"""Faults in the calls of conversions: `suites` says where, `runs` and `moments` judge, `shim.c` injects them."""
