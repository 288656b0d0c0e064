"""Where items run: processes of this machine, or a cluster."""
