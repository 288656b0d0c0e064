"""What a model's files hold beyond its variables: tied copies that TensorFlow stores as well."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bertconv.config.auto import AutoConfig
from bertconv.formats.output import formats
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.models.saving import contents_of
from bertconv.models.variables import Inventory

TABLE, DIALECTS = table_for("albert"), load_dialects()
HEAD = "AlbertForMaskedLM"
BIAS, COPY = "mlm.bias.value", "mlm.decoder.bias"


@pytest.mark.parametrize("form", formats())
def test_a_copy_is_written_beside_its_original_with_its_value(form: str) -> None:
    config = AutoConfig.for_model("albert", hidden_size=40, num_attention_heads=5, vocab_size=101, embedding_size=35)
    groups = TABLE.heads[HEAD]
    specs = expand(TABLE, DIALECTS.by_name["tf"], config.values, groups)
    known = {
        place: keras.Variable(np.full(spec.shape, number, "float32"))
        for number, (place, spec) in enumerate(specs.items())
        if place not in TABLE.tied
    }
    contents = contents_of(Inventory(TABLE, DIALECTS, HEAD, groups, known, {}, {}), config, formats()[form], HEAD)
    found = {content.spec.id: content for content in contents}
    stored = TABLE.stored_copies.get(formats()[form].dialect.name, {})
    assert list(found) == [place for place in specs if place not in TABLE.tied or place in stored]
    assert (COPY in found) is bool(stored)
    for place in stored:
        make = found[place].origin.make
        assert make is not None
        assert (make().view("float32") == known[BIAS].numpy()).all()
