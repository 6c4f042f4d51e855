"""The benchmark's crowds hold as many people as it says, whatever their number."""

import jax
import numpy as np
import pytest

from benchmarks import inference
from configs import tiny
from ktn_jax.codec import Codec


@pytest.mark.parametrize("people", [1, 5, 20])
def test_a_crowd_decodes_to_its_number_of_people(people):
    codec = Codec(**{**tiny.get_config().codec, "max_instances": 32})
    fields = inference.crowd(people, (48, 64), tag=4)
    found = jax.jit(codec.decode)(fields)
    assert int(found.valid.sum()) == people
    # rows * columns cells hold people of .8 x .5 of a cell each
    share = float(np.mean(np.asarray(found.owner) >= 0))
    columns = int(np.ceil(np.sqrt(people * 64 / 48)))
    expected = people / (columns * -(-people // columns)) * 0.4
    assert abs(share - expected) < 0.08
