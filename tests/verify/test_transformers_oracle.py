"""transformers' own classes as the oracle, whatever its release calls a decoder's cache."""

from __future__ import annotations

from typing import Any

import pytest

from bertconv.verify.places import placed
from bertconv.verify.transformers_oracle import _caller


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_the_cache_is_no_output(name: str) -> None:
    def model(**_: Any) -> dict[str, Any]:
        return {"logits": 3.5, name: object()}

    found = _caller(model, "")({}, None)
    assert [place.name for place, _ in placed(found)] == ["logits"]
