"""tfds without its output: what it prints of downloads that do not happen is noise to a user."""

import contextlib
import io
from collections.abc import Iterator

import tensorflow_datasets as tfds
from absl import logging


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Holds back what tfds prints of downloads (there is none), its progress bar and its warnings of new configs."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
