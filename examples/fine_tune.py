"""Fine-tune a classifier of sentences, and with --torch hold it to the same run in PyTorch.

Somebody wants one thing and is done with another; the class is that of the thing which is wanted. What a word means
comes from the checkpoint, what the sentence does with it must be learnt: the test sentences speak of things, and in
phrases, that no training sentence has, and both things occur in every sentence, in either order.

Both frameworks start from the same weights (the fresh classifier too) and take the same batches in the same order, the
same AdamW with warm-up and linear decay, and as many steps. Only the random numbers of dropout differ.

    python examples/fine_tune.py
    python examples/fine_tune.py --torch --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import keras
import numpy as np
from demo import Tokenizer, arguments, checkpoint, load_tokenizer

from bertconv import TFAutoModelForSequenceClassification, create_optimizer

TRAIN_THINGS = {
    "animal": "cats dogs horses cows sheep mice lions elephants eagles salmon spiders bees".split(),
    "instrument": "pianos violins guitars drums flutes trumpets harps organs cellos horns banjos clarinets".split(),
    "vehicle": "cars buses trains bicycles lorries ships aeroplanes tractors trams boats vans scooters".split(),
}
TRAIN_PHRASES = (
    "I would like to buy {wanted}, because I have sold my {other}.",
    "Since I have sold my {other}, I would like to buy {wanted}.",
    "I am keen on {wanted} and tired of {other}.",
    "I am tired of {other} and keen on {wanted}.",
    "Please show me {wanted} instead of {other}.",
    "Instead of {other}, please show me {wanted}.",
    "We need {wanted}; {other} are no use to us.",
    "{other} are no use to us; we need {wanted}.",
)
TEST_THINGS = {
    "animal": "rabbits goats parrots wolves frogs camels".split(),
    "instrument": "saxophones harmonicas oboes accordions mandolins bagpipes".split(),
    "vehicle": "motorcycles ferries helicopters taxis canoes ambulances".split(),
}
TEST_PHRASES = (
    "Have you got any {wanted}? My {other} have to go.",
    "My {other} have to go. Have you got any {wanted}?",
    "She hopes to get {wanted} and to be rid of {other}.",
    "She hopes to be rid of {other} and to get {wanted}.",
)


class Data(NamedTuple):
    """Tokenised sentences, and the number of each one's class: `[count]`."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray


def draw(
    phrases: tuple[str, ...], things: dict[str, list[str]], count: int, random: np.random.Generator, encode: Tokenizer
) -> Data:
    """Sentences made at random."""
    texts, labels = [], []
    for _ in range(count):
        label, other = random.choice(len(things), 2, replace=False)
        wanted, unwanted = (random.choice(list(things.values())[kind]) for kind in (label, other))
        texts.append(random.choice(phrases).format(wanted=wanted, other=unwanted))
        labels.append(label)
    return Data(encode(texts), np.array(labels))


def train_tensorflow(folder: str, train: Data, test: Data, options: argparse.Namespace, start: Path) -> float:
    """Train with Keras; the accuracy on the test sentences. The weights before training go to `start`, for PyTorch."""
    model = TFAutoModelForSequenceClassification.from_pretrained(
        folder,
        id2label=dict(enumerate(TRAIN_THINGS)),
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        classifier_dropout=options.dropout,
    )
    if options.torch:
        model.save_pretrained(start, format="pt")
    optimizer, _ = create_optimizer(options.lr, options.steps, options.warmup, weight_decay_rate=options.decay)
    model.compile(optimizer, metrics=["accuracy"])  # no loss: the head's own
    model.fit(*train, batch_size=options.batch, epochs=options.epochs, shuffle=False, verbose=0)
    return float(model.evaluate(*test, batch_size=64, verbose=0, return_dict=True)["accuracy"])


def train_torch(start: Path, train: Data, test: Data, options: argparse.Namespace, seed: int) -> float:
    """The same in PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(start)
    weights: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        weights["bias" in name or "LayerNorm" in name].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": weights[False], "weight_decay": options.decay}, {"params": weights[True], "weight_decay": 0.0}],
        options.lr,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, options.warmup, options.steps)

    def batch(data: Data, rows: slice) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(value[rows]) for name, value in data.inputs.items()}

    model.train()
    for _ in range(options.epochs):
        for first in range(0, len(train.labels), options.batch):
            rows = slice(first, first + options.batch)
            model(**batch(train, rows), labels=torch.tensor(train.labels[rows])).loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        logits = model(**batch(test, slice(None))).logits.numpy()
    return float((logits.argmax(-1) == test.labels).mean())


def run(folder: str, encode: Tokenizer, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Accuracy by framework, for one draw of sentences; printed with the seconds that it took."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    train = draw(TRAIN_PHRASES, TRAIN_THINGS, options.sentences, random, encode)
    test = draw(TEST_PHRASES, TEST_THINGS, options.test_sentences, random, encode)
    found = {}
    with TemporaryDirectory() as temporary:
        start = Path(temporary, "start")
        for name in ("TensorFlow", "PyTorch")[: 1 + options.torch]:
            began = time.monotonic()
            if name == "TensorFlow":
                found[name] = train_tensorflow(folder, train, test, options, start)
            else:
                found[name] = train_torch(start, train, test, options, seed)
            print(f"seed {seed}, {name}: {found[name]:.3f} after {time.monotonic() - began:.0f} s", flush=True)
    return found


def main() -> None:
    """Train once for every seed; print the accuracies on things and phrases that training did not have."""
    parser = arguments(__doc__)
    parser.add_argument("--torch", action="store_true", help="train in PyTorch too (needs torch and transformers)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run for each (default: 0)")
    parser.add_argument("--sentences", type=int, default=320, help="to train on (default: 320)")
    parser.add_argument("--test-sentences", type=int, default=240, help="to test on (default: 240)")
    parser.add_argument("--epochs", type=int, default=4, help="rounds of training (default: 4)")
    parser.add_argument("--batch", type=int, default=16, help="sentences per step (default: 16)")
    parser.add_argument("--lr", type=float, default=1e-4, help="highest learning rate (default: 1e-4)")
    parser.add_argument("--decay", type=float, default=0.01, help="weight decay (default: 0.01)")
    parser.add_argument("--dropout", type=float, default=0.1, help="rate of dropout (default: 0.1)")
    options = parser.parse_args()
    options.steps = -(-options.sentences // options.batch) * options.epochs
    options.warmup = options.steps // 10
    folder = checkpoint(options.model)
    encode = load_tokenizer(folder)
    results = [run(folder, encode, options, seed) for seed in options.seeds]
    for name in results[0]:
        accuracies = np.array([result[name] for result in results])
        print(f"{name}: accuracy {accuracies.mean():.3f} (from {accuracies.min():.3f} to {accuracies.max():.3f})")


if __name__ == "__main__":
    main()
