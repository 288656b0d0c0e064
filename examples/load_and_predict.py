"""Load a PyTorch checkpoint into TensorFlow and compare sentences by their meaning.

The checkpoint, sentence-transformers/all-MiniLM-L6-v2, was trained so that the mean of a sentence's hidden states says
what the sentence means; the cosine of two of them says how much they have in common.

    python examples/load_and_predict.py
    python examples/load_and_predict.py "A dog barks." "The puppy makes noise." "Taxes rise."
    python examples/load_and_predict.py --model sentence-transformers/all-distilroberta-v1
"""

from __future__ import annotations

import keras
import numpy as np
from demo import arguments, checkpoint, load_tokenizer

from bertconv import TFAutoModel

SENTENCES = (
    "A man is eating his dinner.",
    "Somebody is having a meal.",
    "The guitarist plays a slow song.",
    "Music fills the room.",
    "Interest rates will rise again.",
)


def embed(model: keras.Model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """One vector of length 1 per sentence: `[batch hidden]`."""
    states = model.predict(inputs, verbose=0).last_hidden_state
    mask = inputs["attention_mask"][..., np.newaxis]
    means = (states * mask).sum(1) / mask.sum(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def main() -> None:
    """Print the cosine of every two sentences."""
    parser = arguments(__doc__)
    parser.add_argument("sentences", nargs="*", default=SENTENCES, help="what to compare")
    options = parser.parse_args()
    folder = checkpoint(options.model)
    tokenize = load_tokenizer(folder)
    model = TFAutoModel.from_pretrained(folder)
    vectors = embed(model, tokenize(options.sentences))
    for row, sentence in zip(vectors @ vectors.T, options.sentences, strict=True):
        print(*(f"{cosine:6.3f}" for cosine in row), "", sentence)


if __name__ == "__main__":
    main()
