"""What the tokenizer files of a checkpoint say, as plain data: they are read as untrusted text, and nothing is run.

The files are those of transformers and tokenizers: vocab.txt, tokenizer.json, tokenizer_config.json,
special_tokens_map.json, added_tokens.json.
"""

from bertconv.tokenizer.facts import Tokenizer, read_tokenizer
from bertconv.tokenizer.notes import tokenizer_notes

__all__ = ["Tokenizer", "read_tokenizer", "tokenizer_notes"]
