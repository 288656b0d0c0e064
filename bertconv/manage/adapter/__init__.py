"""LoRA adapters merged into the checkpoint that they were trained on.

`settings` is what adapter_config.json says, `files` the folder, `names` which tensor is of which module, `merging` the
arithmetic and the output.
"""

from bertconv.manage.adapter.merging import merge_adapter

__all__ = ["merge_adapter"]
