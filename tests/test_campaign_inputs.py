"""Every kind of input that the campaign of spoilt inputs spoils can be read as long as it is whole.

A try is judged by the values of the whole input, so a campaign whose whole input is refused would show nothing.
"""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "campaigns"))
import input_kinds


@pytest.mark.parametrize("name", ["archive", "prediction", "manifest", "mmin", "features", "pickle", "table", "tuned"])
def test_a_whole_input_is_read(name, tmp_path):
    kind = input_kinds.KINDS[name]
    kind.make(tmp_path)
    first, second = (input_kinds.fingerprint(kind.read(tmp_path)) for _ in range(2))
    assert first == second != input_kinds.fingerprint(None)
