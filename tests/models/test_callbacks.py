"""Keras's callbacks: checkpoints, early stopping, a run that is broken off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from tiny_models import BATCH, config, inputs, labels, tf_class
from trained_models import CLASSIFIER, compiled, make, same, weights

KERAS_SAVES = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""Keras makes arrays of its variables in a way that numpy 2 does not like."""


@KERAS_SAVES
def test_checkpoints(tmp_path: Path) -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(metrics=["accuracy"], optimizer=keras.optimizers.Adam(0.01))
    callbacks = [
        keras.callbacks.ModelCheckpoint(str(tmp_path / "w{epoch}.weights.h5"), save_weights_only=True),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "m{epoch}.keras")),
    ]
    seen = []
    callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(weights(model))))
    model.fit(given, answers, batch_size=BATCH, epochs=2, verbose=0, callbacks=callbacks)
    for epoch in (1, 2):
        fresh = tf_class(CLASSIFIER)(config(CLASSIFIER, num_hidden_layers=1))
        fresh.load_weights(tmp_path / f"w{epoch}.weights.h5")
        assert same(weights(fresh), seen[epoch - 1])
        whole = keras.models.load_model(tmp_path / f"m{epoch}.keras")
        assert type(whole) is type(model)
        assert same(weights(whole), seen[epoch - 1])
        assert whole.config.own_keys() == model.config.own_keys()
    first = keras.models.load_model(tmp_path / "m1.keras")
    assert first.optimizer.iterations == 1
    first.run_eagerly = True
    first.fit(given, answers, batch_size=BATCH, verbose=0)  # with the moments of Adam as they were
    assert same(weights(first), seen[1], 1e-6)


@KERAS_SAVES
def test_checkpoint_of_a_frozen_body(tmp_path: Path) -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = make()
    model.bert.embeddings.trainable = model.bert.encoder.trainable = False
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    model.fit(given, answers, verbose=0)
    model.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert same(weights(loaded), weights(model))
    assert [each.path.split("/")[-2] for each in loaded.trainable_variables] == ["dense"] * 2 + ["classifier"] * 2
    assert loaded.bert.trainable
    assert not loaded.bert.encoder.trainable
    for each in (model, loaded):
        each.run_eagerly = True
        each.fit(given, answers, batch_size=BATCH, verbose=0)
    assert same(weights(loaded), weights(model), 1e-6)


def test_early_stopping() -> None:
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True)
    before = weights(model)
    history = model.fit(given, answers, epochs=9, validation_data=(given, answers), callbacks=[stop], verbose=0).history
    assert len(history["loss"]) == 2
    assert same(weights(model), before)


@KERAS_SAVES
def test_backup_and_restore(tmp_path: Path) -> None:
    """A run that is broken off goes on where it was."""
    given, answers = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    whole = compiled()
    whole.fit(given, answers, batch_size=BATCH, epochs=4, verbose=0)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            if epoch == 2:
                raise KeyboardInterrupt

    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        compiled().fit(given, answers, batch_size=BATCH, epochs=4, verbose=0,
                       callbacks=[keras.callbacks.BackupAndRestore(backup), Interrupt()])  # fmt: skip
    resumed = compiled()
    history = resumed.fit(
        given, answers, batch_size=BATCH, epochs=4, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(backup)]
    )
    assert history.epoch == [2, 3]
    assert same(weights(resumed), weights(whole), 1e-6)
