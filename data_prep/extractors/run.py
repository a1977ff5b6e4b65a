"""Runs an extractor over a corpus in worker processes. A cache on disk keeps every utterance that is done."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cmarr_jax.cores import num_cores
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.names import as_file_name
from data_prep.extractors.base import Extractor, MediaError, Modality, one_line, record_hash
from data_prep.media import Media

PIECE, PIECES = 1 << 14, 64  # bytes of a media file that tell whether it has changed


@dataclasses.dataclass(frozen=True)
class Failure:
    """An utterance without features.

    Attributes:
      utterance_id: Its id.
      reason: The cause, one sentence.
    """

    utterance_id: str
    reason: str


def extract_all(
    extractor: Extractor,
    items: Sequence[Media],
    cache_dir: str | os.PathLike[str],
    num_workers: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, np.ndarray], list[Failure]]:
    """Features of many utterances.

    Each result is saved in `cache_dir`, under the hash of the extractor's record, as soon as it is computed. A second
    call continues where the first was stopped. Failures are not saved: a second call tries them again. A media file is
    identified by its name and a hash of its size and of pieces of it (of a file up to 1 MiB all), so a corpus may be
    moved. A worker process imports the calling script when it
    starts: guard the script with `if __name__ == "__main__"`.

    Args:
      extractor: From `data_prep.extractors.get`.
      items: Utterances with distinct ids.
      cache_dir: Folder of the cache; created if it does not exist.
      num_workers: Number of processes; `None`: one per core of this process; 1: no process is started.
      progress: Whether to show a progress bar on stderr.

    Returns:
      Features `[T, D]` float32 by utterance id in the order of `items`, without the failed ones; and the failures.

    Raises:
      ValueError: if two utterances have the same id, `num_workers` is less than 1, or `Extractor.check` finds a fault.
      OSError: if weights cannot be read.
      ArchiveError: if a file of the weights changes while features are extracted, or the cache cannot be written.
    """
    if len({item.utterance_id for item in items}) != len(items):
        raise ValueError("two utterances have the same id; ids must be distinct")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, found {num_workers}")
    folder = _make_cache(extractor, Path(cache_dir))
    paths = {item.utterance_id: folder / _file_name(extractor.modality, item) for item in items}
    features = {key: array for key, path in paths.items() if (array := _load(path, extractor.width)) is not None}
    todo = [item for item in items if item.utterance_id not in features]
    workers = min(num_workers or num_cores(), max(1, len(todo)))
    run = _in_pool(extractor, todo, paths, workers) if workers > 1 else _here(extractor, todo, paths)
    reasons: dict[str, str] = {}
    with _bar(progress) as bar:
        task = bar.add_task(extractor.name, total=len(items), completed=len(features), failed=0)
        for key, reason in run:
            if reason is not None:
                reasons[key] = reason
            bar.update(task, advance=1, failed=len(reasons))
    for item in todo:
        if item.utterance_id not in reasons:
            array = _load(paths[item.utterance_id], extractor.width)
            if array is None:
                reasons[item.utterance_id] = f"{paths[item.utterance_id]}: cannot be read back"
            else:
                features[item.utterance_id] = array
    ordered = {key: features[key] for key in paths if key in features}
    return ordered, [Failure(key, reasons[key]) for key in paths if key in reasons]


def _work(extractor: Extractor, item: Media, path: Path) -> str | None:
    """Extracts one utterance and saves its features. Returns the reason if that fails, else None."""
    try:
        features = extractor(item)
    except MediaError as error:
        return str(error)
    except Exception as error:  # decoders and models raise many types; the other files must still be done
        extractor.check_unchanged()
        return f"{extractor.name} failed ({type(error).__name__}: {one_line(error)})"
    extractor.check_unchanged()  # this process may have loaded its weights just now
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with _cache_errors(path.parent):
        try:
            with open(temporary, "wb") as file:
                np.save(file, features, allow_pickle=False)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return None


def _here(extractor: Extractor, items: Sequence[Media], paths: dict[str, Path]) -> Iterator[tuple[str, str | None]]:
    for item in items:
        yield item.utterance_id, _work(extractor, item, paths[item.utterance_id])


def _in_pool(
    extractor: Extractor, items: Sequence[Media], paths: dict[str, Path], workers: int
) -> Iterator[tuple[str, str | None]]:
    """As `_here`, in processes. If one crashes, each utterance that was in work is repeated in a process of its own."""
    waiting = list(reversed(items))
    while waiting:
        suspects: list[Media] = []
        with _pool(extractor, workers) as pool:
            flying: dict[Future, Media] = {}
            while (waiting and not suspects) or flying:
                while waiting and not suspects and len(flying) < 2 * workers:
                    item = waiting.pop()
                    try:
                        flying[pool.submit(_work_there, item, paths[item.utterance_id])] = item
                    except BrokenProcessPool:
                        suspects.append(item)
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    item = flying.pop(future)
                    try:
                        yield item.utterance_id, future.result()
                    except BrokenProcessPool:
                        suspects.append(item)
        for item in suspects:
            yield item.utterance_id, _alone(extractor, item, paths[item.utterance_id])


def _alone(extractor: Extractor, item: Media, path: Path) -> str | None:
    with _pool(extractor, 1) as pool:
        try:
            return pool.submit(_work_there, item, path).result()
        except BrokenProcessPool:
            return f"{extractor.name} ended its process (a crash in a library, or no memory left)"


@contextlib.contextmanager
def _pool(extractor: Extractor, workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes, since JAX's threads do not survive a fork."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(extractor,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(extractor: Extractor) -> None:
    global _extractor
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    os.environ["OMP_NUM_THREADS"] = "1"
    _extractor = extractor


def _work_there(item: Media, path: Path) -> str | None:
    return _work(_extractor, item, path)


_extractor: Extractor  # of this worker process, set once by `_start_worker`


def _make_cache(extractor: Extractor, cache_dir: Path) -> Path:
    """Creates the folder of this extractor and writes its record there."""
    record = extractor.record()
    folder = cache_dir / f"{extractor.name}-{record_hash(record)}"
    with _cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"record.json.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        os.replace(temporary, folder / "record.json")
    return folder


@contextlib.contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "free some space, or give another folder (--cache-dir; for predictions the variable TMPDIR)"
        text = f"the cache cannot be written ({error.strerror}); {advice}"
        raise ArchiveError(f"{folder}: {text}") from error


def _file_name(modality: Modality, item: Media) -> str:
    """A file name from the id and a hash of the sources: another file, time or transcript gives another name."""
    if modality == "text":
        parts: tuple[object, ...] = (item.text,)
    elif modality == "audio":
        parts = _name_and_hash(item.audio)
        if (item.audio_start, item.audio_end) != (None, None):
            parts += (item.audio_start, item.audio_end)
    else:
        parts = (*_name_and_hash(item.video), item.start, item.end, item.half)
    digest = hashlib.sha256(repr((item.utterance_id, parts)).encode()).hexdigest()
    return f"{as_file_name(item.utterance_id)}.{digest[:16]}.npy"


def _name_and_hash(path: Path | None) -> tuple[str | None, str | None]:
    if path is None:
        return None, None
    try:
        stat = path.stat()
        return path.name, _hash_of_pieces(path, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return path.name, None


@functools.lru_cache(maxsize=1024)  # of a dialogue, which has many utterances
def _hash_of_pieces(path: Path, size: int, changed: int) -> str:
    """A hash of the size and of evenly spaced pieces: of a small file all bytes, of a large one a sample."""
    del changed  # of the cache's key only
    starts: Sequence[int] = range(0, size, PIECE)
    if len(starts) > PIECES:
        starts = [(size - PIECE) * number // (PIECES - 1) for number in range(PIECES)]
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(PIECE))
    return digest.hexdigest()


def _load(path: Path, width: int) -> np.ndarray | None:
    """Saved features; `None` if there are none or they are damaged."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.ndim == 2 and array.shape[1] == width and array.dtype == np.float32 and len(array) else None


def _bar(progress: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not progress,
    )
