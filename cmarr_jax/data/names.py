"""File names made of names that the data chose, such as those of speakers and utterances."""

import hashlib
from urllib.parse import quote

LONGEST = 120  # characters of a file name; file systems allow 255 bytes, and callers add a number or an ending


def as_file_name(name: str) -> str:
    """One short file name for a name, never a path: `a/b` becomes `a%2Fb`. Different names get different file names.

    Letters, digits and ` +=@,_-~.` stay, except a dot at the start; other characters are percent-encoded as UTF-8. A
    name that is too long is cut and ends in a hash of the whole.
    """
    quoted = quote(name, safe=" +=@,", errors="surrogatepass")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) > LONGEST:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        return f"{quoted[: LONGEST - 18]}%~{digest}"  # `%~` is in no other encoded name
    return quoted or "%"
