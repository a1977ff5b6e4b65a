"""Reads HDF5 without leaving the file. An HDF5 file may name others: by links, external storage or virtual data sets.

It may also claim more values than it stores, which reading fills with zeros: a file of 2 kB could fill the memory.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import h5py

_SPARE = 1 << 20  # bytes that may be claimed whatever is stored
_MOST = 1100  # bytes that one stored byte may unpack to; deflate makes at most 1032


class NotInFile(OSError):
    """The values of an entry are not in the file; the message continues "since it"."""


class Inside(Mapping[str, Any]):
    """A file or group of HDF5: data sets, and groups as `Inside`, that lie in the file itself."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError if there is no such entry, NotInFile if its values are elsewhere or nowhere."""
        item: Any = self.group
        for part in filter(None, name.split("/")):
            link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
            if link is None:
                raise KeyError(name)
            if not isinstance(link, h5py.HardLink):  # to follow it would open another file
                raise NotInFile("is a link; only what is stored under its own name is read")
            item = item[part]
        if isinstance(item, h5py.Dataset):
            _check_stored(item)
        return Inside(item) if isinstance(item, h5py.Group) else item

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        except NotInFile:
            pass
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.group)

    def __len__(self) -> int:
        return len(self.group)


def _check_stored(item: h5py.Dataset) -> None:
    """Raises NotInFile if the values of a data set lie in another file, or are far more than what is stored."""
    if item.external or item.is_virtual:
        raise NotInFile("has its values in another file, which is never opened")
    if item.shape is None:  # it holds nothing
        return
    claimed, stored = item.size * item.dtype.itemsize, item.id.get_storage_size()
    if claimed > _SPARE + _MOST * stored:
        raise NotInFile(f"claims {claimed} bytes of values where {stored} are stored")
