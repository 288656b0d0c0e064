"""Ask a SavedModel with TensorFlow alone: JSON arrays by name on standard input, and on standard output.

python examples/serve_client.py served/saved_model/1 serving_default < question.json
"""

from __future__ import annotations

import argparse
import json
import sys

import tensorflow as tf


def main() -> None:
    """Read the question, print the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", help="folder that holds saved_model.pb")
    parser.add_argument("signature", nargs="?", default="serving_default", help="serving_default or int64_serving")
    options = parser.parse_args()
    signature = tf.saved_model.load(options.saved_model).signatures[options.signature]
    _, specs = signature.structured_input_signature
    question = json.load(sys.stdin)
    absent = tf.zeros_like(question["input_ids"])  # a tokenizer leaves token_type_ids out where they are all zero
    answer = signature(**{name: tf.cast(question.get(name, absent), spec.dtype) for name, spec in specs.items()})
    json.dump({name: value.numpy().tolist() for name, value in answer.items()}, sys.stdout)


if __name__ == "__main__":
    main()
