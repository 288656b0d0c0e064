"""Many checkpoints: a list of items, a scheduler, engines that run them, and a ledger of what became of them.

docs/scale.md has a fleet in fifteen lines of Python, which the tests run. One item, as every engine does it:

>>> from bertconv.fleet.items import Item
>>> from bertconv.fleet.work import run_item
>>> outcome = run_item(Item("/no/such/checkpoint", "/no/such/output"))
>>> outcome.state, outcome.code, outcome.message
('failed', 2, 'is not a local folder and is not a valid model identifier: no such file or folder, and not a Hub id.')
"""
