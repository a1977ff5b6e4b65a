"""Silences tfds: it prints messages about downloads, although nothing is downloaded."""

import contextlib
import io
from collections.abc import Iterator

import tensorflow_datasets as tfds
from absl import logging


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Hides tfds' messages about downloads, its progress bar and its warnings about new configs."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
