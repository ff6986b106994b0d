"""Chunks of files on the wire, put together and taken apart by hand.

A chunk is nearly all of its message. A parser copies it twice on each side; this copies it once on the way
out and not at all on the way in. UploadFileRequest and DownloadFileResponse both have their chunk as field 2.
"""

from __future__ import annotations

#: The longest chunk of an upload.
MAX_CHUNK_BYTES = 1024 * 1024

# Field 2, a length and so many bytes.
_TAG = b"\x12"


def chunk_message(chunk: bytes) -> bytes:
    """The message that holds just this chunk."""
    length, number = bytearray(), len(chunk)
    while number > 0x7F:
        length.append(number & 0x7F | 0x80)
        number >>= 7
    length.append(number)
    return b"".join((_TAG, length, chunk))


def chunk_of(message: bytes) -> memoryview | None:
    """The chunk of a message that holds just that, not copied; None for any other message."""
    if message[:1] != _TAG:
        return None
    length = 0
    for place, byte in enumerate(message[1:11]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            start = place + 2
            return memoryview(message)[start:] if start + length == len(message) else None
    return None
