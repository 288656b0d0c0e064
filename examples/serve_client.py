"""Ask a SavedModel with TensorFlow alone: JSON arrays by name on standard input; by signature on standard output.

python examples/serve_client.py served/saved_model/1 serving_default int64_serving < question.json
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import tensorflow as tf


def ask(signature: Any, question: dict[str, Any]) -> dict[str, Any]:
    """What a signature answers."""
    _, specs = signature.structured_input_signature
    absent = tf.zeros_like(question["input_ids"])  # a tokenizer leaves token_type_ids out where they are all zero
    answer = signature(**{name: tf.cast(question.get(name, absent), spec.dtype) for name, spec in specs.items()})
    return {name: value.numpy().tolist() for name, value in answer.items()}


def main() -> None:
    """Read the question, print the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", help="folder that holds saved_model.pb")
    parser.add_argument("signatures", nargs="+", metavar="signature", help="serving_default or int64_serving")
    options = parser.parse_args()
    signatures = tf.saved_model.load(options.saved_model).signatures
    question = json.load(sys.stdin)
    answers = {name: ask(signatures[name], question) for name in options.signatures}
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
