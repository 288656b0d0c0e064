"""Many checkpoints: a list of items, a scheduler, engines that run them, and a ledger of what became of them."""
