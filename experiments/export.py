"""Exports a trained unit: `python -m experiments.export --run RUNS/ROW/FOLD_seedN`. See `--help`."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.export import calibration_of, export_unit
from cmarr_jax.exported import MODEL
from cmarr_jax.predict import load_unit
from data_prep.convert import Flag, run_command
from experiments.model_card import model_card

PROG = "python -m experiments.export"
EXPORT, CARD = "export", "README.md"


def export(run: Path, out: Path | None = None, force: Flag = False) -> None:
    """Writes a program for cpu, cuda and tpu (jax.export, StableHLO), parameters (safetensors) and a model card.

    The program takes any number of utterances and frames. `load.py` beside it loads it with jax and numpy alone.

    Args:
      run: Folder of a unit.
      out: Folder to write; by default `export` in that of the unit. It appears complete or not at all.
      force: Replaces a folder that is there.
    """
    unit = load_unit(run)
    calibration_of(unit)  # refuses a regression before anything is made
    target = out or run / EXPORT
    if target.exists() and not force:
        raise ArchiveError(f"--out: {target}: is there already; give --force to replace it")
    if target.exists() and not (target / MODEL).is_file():  # never deletes what is no export
        raise ArchiveError(f"--out: {target}: holds no export that could be replaced; choose another folder")
    try:
        card = model_card(unit)
    except (OSError, ValueError) as error:
        raise ArchiveError(f"--run: {error}") from error
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        export_unit(unit, partial)
        (partial / CARD).write_text(card, encoding="utf-8")
        if target.is_dir():
            shutil.rmtree(target)
        partial.rename(target)
    except OSError as error:
        raise ArchiveError(f"--out: {target}: cannot be written ({error.strerror}); choose another folder") from error
    except ImportError as error:
        text = "run python -m pip install -c constraints.txt -e '.[experiments]'"
        raise ArchiveError(f"a package that exports need is missing ({error}); {text}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
    print(f"wrote {target}: {', '.join(sorted(path.name for path in target.iterdir()))}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run_command(export, argv, prog=PROG)


if __name__ == "__main__":
    raise SystemExit(main())
