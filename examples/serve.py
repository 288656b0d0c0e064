"""Write a SavedModel and ask it from a process that has TensorFlow and not bertconv.

TensorFlow Serving and TensorFlow's other languages read the same folder. It has two signatures: `serving_default` takes
int32 ids, `int64_serving` int64 ids; both take input_ids, attention_mask and, where the
model has them, token_type_ids, of any size.

    python examples/serve.py
    python examples/serve.py --out served && ls served/saved_model/1
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
from demo import arguments, checkpoint, load_tokenizer

from bertconv import TFAutoModel

CLIENT = Path(__file__).with_name("serve_client.py")


def export(folder: str, out: Path) -> tuple[keras.Model, Path]:
    """The model, and the folder of its SavedModel."""
    model = TFAutoModel.from_pretrained(folder)
    model.save_pretrained(out, saved_model=True)
    return model, out / "saved_model" / "1"


def ask(
    saved_model: Path, signatures: Sequence[str], inputs: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """What the served model answers, by signature and output name."""
    question = {name: value.tolist() for name, value in inputs.items()}
    done = subprocess.run(
        [sys.executable, CLIENT, saved_model, *signatures],
        input=json.dumps(question), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    return {name: {key: np.array(value) for key, value in answer.items()} for name, answer in answers.items()}


def main() -> None:
    """Export the model, ask both signatures, and compare with the model in this process."""
    parser = arguments(__doc__)
    parser.add_argument("--out", help="folder to save to (default: a temporary one)")
    options = parser.parse_args()
    folder = checkpoint(options.model)
    inputs = load_tokenizer(folder)(["What does a server do?", "It waits, and then it answers."])
    with TemporaryDirectory() as temporary:
        model, saved_model = export(folder, Path(options.out or Path(temporary, "served")))
        expected = model(inputs)
        for signature, answer in ask(saved_model, ("serving_default", "int64_serving"), inputs).items():
            for name, value in answer.items():
                print(f"{signature}: {name} {list(value.shape)}, off by {np.abs(value - expected[name]).max():.1e}")


if __name__ == "__main__":
    main()
