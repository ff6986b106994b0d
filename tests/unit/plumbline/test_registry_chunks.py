"""Chunks put together and taken apart by hand are those of the contract."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.chunks import MAX_CHUNK_BYTES, chunk_message, chunk_of
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res

SIZES = (0, 1, 127, 128, 16_383, 16_384, MAX_CHUNK_BYTES)


def test_every_length_reads_as_the_parser_reads_it() -> None:
    for size in SIZES:
        chunk = bytes(size)
        message = chunk_message(chunk)
        assert message == pb.UploadFileRequest(chunk=chunk).SerializeToString()
        assert message == pb.DownloadFileResponse(chunk=chunk).SerializeToString()
        found = chunk_of(message)
        assert found is not None
        assert bytes(found) == chunk


def test_a_header_is_no_chunk() -> None:
    header = pb.UploadFileHeader(version="models/m/versions/1", file=res.ModelFile(path="x"))
    assert chunk_of(pb.UploadFileRequest(header=header).SerializeToString()) is None
    assert chunk_of(b"") is None


@given(st.binary(max_size=300), st.booleans())
def test_what_is_taken_for_a_chunk_is_one_to_the_parser(data: bytes, tagged: bool) -> None:
    """Whatever comes, cut or with more behind it: only what is a chunk and nothing else is taken."""
    message = b"\x12" + data if tagged else data
    found = chunk_of(message)
    if found is not None:
        assert pb.UploadFileRequest.FromString(message).chunk == bytes(found)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_cut_chunk_is_none(chunk: bytes, cut: int) -> None:
    message = chunk_message(chunk)
    if cut < len(message):
        assert chunk_of(message[:cut]) is None
    assert chunk_of(message + b"\x12\x00") is None
