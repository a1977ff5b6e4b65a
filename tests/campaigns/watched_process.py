"""Reads spoiled inputs in a process of its own, with limits, and watches what reading opens, starts and unpickles."""

import contextlib
import ctypes
import gc
import io
import multiprocessing
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).parent.parent
REFUSALS = ("ValueError", "ArchiveError", "FoldError", "FileNotFoundError", "FileExistsError")
SAME, REFUSED, OTHER, FAULT = "same", "refused", "other valid", "FAULT"
_ALLOWED = tuple(map(str, (sys.prefix, sys.base_prefix, "/proc/", "/sys/", "/dev/null", "/usr/", TESTS.parent)))
_WAIT = 10  # times as long as a try may compute, it may wait: other programs may use the processor
_CODE = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")


class Verdict(NamedTuple):
    """What one try gave.

    Attributes:
      found: `SAME`, `REFUSED`, `OTHER` or `FAULT`.
      text: The mutation, and what was said.
      seconds: Of the processor.
      grown_mib: Peak memory above that of reading the whole input, of all tries of this process.
    """

    found: str
    text: str
    seconds: float = 0.0
    grown_mib: float = 0.0


class Watch:
    """Notes what the interpreter opens outside some folder, and calls that run code."""

    def __init__(self) -> None:
        self.inside: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        self.inside, self.seen = str(folder), []
        try:
            yield self.seen
        finally:
            self.inside = None

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.inside is None:
            return
        if event in _CODE:
            self.seen.append(f"{event} {args[:2]!r}"[:200])
        elif event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(args[0]))
            writes = isinstance(args[1], str) and args[1][:1] in ("w", "a", "x")
            if not path.startswith(self.inside) and (writes or not path.startswith(_ALLOWED)):
                self.seen.append(f"{'writes' if writes else 'opens'} {path}"[:200])


class OpenedFiles:
    """Whether files were opened, also by libraries in C: Linux tells by inotify."""

    IN_OPEN = 0x20

    def __init__(self, paths: list[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        for path in paths:
            assert libc.inotify_add_watch(self._descriptor, str(path).encode(), self.IN_OPEN) >= 0, path

    def since_last_call(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False


class Reader:
    """A kind of input in this process: the whole one, and a copy that is spoiled, read and mended try by try."""

    def __init__(self, name: str, folder: Path, limit_mib: int) -> None:
        import h5py
        import input_kinds
        import mutations

        self.name, self.kind, self.folder = name, input_kinds.KINDS[name], folder / "input"
        self.spoil, self.fingerprint, self.marker = mutations.spoil, input_kinds.fingerprint, folder / "unpickled"
        mutations.Unpickled.marker = str(self.marker)
        shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (folder / "outside.txt").write_text("what nobody may read\n")
        with h5py.File(folder / "outside.h5", "w") as file:
            file["data"] = [[1.0, 2.0]] * 3
        self.outside = OpenedFiles([folder / "outside.txt", folder / "outside.h5"])
        self.kind.make(self.folder)
        self.watch = Watch()
        self.whole = self.fingerprint(self._read())
        self.base = _peak_mib()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + limit_mib * 2**20,) * 2)

    def _read(self) -> Any:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return self.kind.read(self.folder)

    def attempt(self, seed: int) -> Verdict:
        """Spoils one file with the places of this seed, reads, and puts the file back."""
        places = random.Random(f"{self.name} {seed}")
        before = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        path, how, aware = self.spoil(self.folder, places)
        self.outside.since_last_call()
        start = time.process_time()
        with self.watch.over(self.folder) as seen:
            found, text = self._judge(aware)
        seconds = time.process_time() - start
        if self.kind.names_files:
            seen = [item for item in seen if not item.startswith("opens ")]
        if self.outside.since_last_call() and not self.kind.names_files:
            seen = [*seen, "opens a file outside the folder"]
        if self.marker.exists():
            seen = [*seen, "an object was unpickled"]
            self.marker.unlink()
        if seen:
            found, text = FAULT, f"{'; '.join(seen)}; {text}"
        self._restore(before)
        text = f"{path.relative_to(self.folder)}: {how}: {text}"
        return Verdict(found, text, seconds, _peak_mib() - self.base)

    def _restore(self, before: dict[Path, bytes]) -> None:
        for file in [file for file in self.folder.rglob("*") if file.is_file() and file not in before]:
            file.unlink()
        for file, content in before.items():
            file.write_bytes(content)

    def _judge(self, aware: bool) -> tuple[str, str]:
        try:
            read = self._read()
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            is_sentence = type(error).__name__ in REFUSALS and str(self.folder) in str(error)
            return (REFUSED if is_sentence else FAULT), text.replace(str(self.folder), "")[:300]
        finally:
            gc.collect(0)
        if self.fingerprint(read) == self.whole:
            return SAME, ""
        if self.kind.has_sum and not aware:
            return FAULT, "damaged bytes were read as other values"
        return OTHER, ""


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _serve(connection: Any, name: str, folder: Path, limit_mib: int) -> None:
    """Answers seeds with verdicts until the other side hangs up. What libraries write on stderr goes into a file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(folder.with_name(f"{name}.stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.path[:0] = [str(TESTS.parent), str(TESTS), str(Path(__file__).parent)]
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    reader = Reader(name, folder, limit_mib)
    connection.send(None)
    with contextlib.suppress(EOFError):
        while True:
            connection.send(tuple(reader.attempt(connection.recv())))


class WatchedProcess:
    """A process that tries seeds of one kind; one that crashes or hangs is replaced."""

    def __init__(self, name: str, folder: Path, limit_mib: int, seconds: float) -> None:
        self._arguments, self._seconds = (name, folder, limit_mib), seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._own, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *self._arguments), daemon=True)
        self._process.start()
        other.close()
        self._own.recv()  # the input is made

    def attempt(self, seed: int) -> Verdict:
        """One try. A process that ends, or needs longer than its time, is a fault."""
        self._own.send(seed)
        begun, used = time.monotonic(), _cpu_seconds(self._process.pid)
        while not self._own.poll(1.0):
            busy, waited = _cpu_seconds(self._process.pid) - used, time.monotonic() - begun
            if busy > self._seconds or waited > _WAIT * self._seconds:
                self.stop()
                self._start()
                return Verdict(FAULT, f"hangs: longer than {self._seconds:g} s", self._seconds)
            if not self._process.is_alive():
                break
        try:
            return Verdict(*self._own.recv())
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            self._start()
            return Verdict(FAULT, f"crashes: exit code {code}")

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _cpu_seconds(pid: int | None) -> float:
    """Processor time of a process since its start; on a busy machine the clock says little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
