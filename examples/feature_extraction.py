"""Use a pretrained model as a frozen layer of a functional Keras model: own layers on top, saved as one .keras file.

The features of a sentence are the mean of its hidden states; a small network on top learns whether a review praises or
blames. The words of praise and blame in the test reviews occur in no training review.

    python examples/feature_extraction.py
"""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
from demo import arguments, checkpoint, load_tokenizer

from bertconv import TFAutoModel

TEMPLATES = ("The {thing} was {word}.", "What a {word} {thing}!", "I found the {thing} rather {word}.")
THINGS = "meal film hotel concert book lecture".split()
TRAIN = ("good excellent lovely brilliant splendid charming".split(), "bad awful ugly stupid horrible dull".split())
TEST = ("wonderful delightful superb fantastic".split(), "terrible disgusting poor dreadful".split())


def reviews(words: tuple[list[str], list[str]]) -> tuple[list[str], np.ndarray]:
    """Every sentence with these words of praise and blame, and 1 where it praises: `[count 1]`."""
    praise, blame = words
    rows = list(itertools.product(TEMPLATES, THINGS, praise + blame))
    texts = [template.format(thing=thing, word=word) for template, thing, word in rows]
    return texts, np.array([[float(word in praise)] for _, _, word in rows])


def build(folder: str) -> keras.Model:
    """input_ids, attention_mask: `[batch sequence]` -> probability of praise: `[batch 1]`."""
    body = TFAutoModel.from_pretrained(folder, trainable=False)
    ids = keras.Input((None,), dtype="int32", name="input_ids")
    mask = keras.Input((None,), dtype="int32", name="attention_mask")
    states = body(ids, attention_mask=mask).last_hidden_state
    features = keras.layers.GlobalAveragePooling1D()(states, mask=mask)
    hidden = keras.layers.Dense(32, activation="relu")(keras.layers.Dropout(0.2)(features))
    return keras.Model([ids, mask], keras.layers.Dense(1, activation="sigmoid")(hidden))


def main() -> None:
    """Train the layers on top, save, load, and check that both models say the same."""
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", help="where to save the model (default: a temporary folder)")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    folder = checkpoint(options.model)
    tokenize = load_tokenizer(folder)
    (texts, labels), (test_texts, test_labels) = reviews(TRAIN), reviews(TEST)
    train, test = tokenize(texts), tokenize(test_texts)
    model = build(folder)
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])
    model.fit(train, labels, epochs=options.epochs, verbose=0)
    accuracy = model.evaluate(test, test_labels, verbose=0, return_dict=True)["accuracy"]
    print(f"accuracy on words that training never saw: {accuracy:.3f}")
    with TemporaryDirectory() as temporary:
        path = Path(options.out or Path(temporary, "reviews.keras"))
        model.save(path)
        loaded = keras.models.load_model(path)  # in another process: import bertconv.TFBertModel first
    difference = np.abs(model.predict(test, verbose=0) - loaded.predict(test, verbose=0)).max()
    print(f"saved, loaded again; largest difference of a prediction: {difference}")


if __name__ == "__main__":
    main()
