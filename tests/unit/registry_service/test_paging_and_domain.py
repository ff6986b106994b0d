from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidField, InvalidPageToken
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from registry_service.calls import PAGE_BYTES, Page
from registry_service.domain import ModelFile, etag, manifest_digest
from registry_service.paging import decode_token, encode_token, page_size

keys = st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20)), min_size=1, max_size=4)


@given(st.binary(max_size=20), keys)
def test_a_token_gives_back_its_key(query: bytes, key: list[str | int]) -> None:
    token = encode_token(query, key)
    assert decode_token(query, token, [type(part) for part in key]) == tuple(key)
    assert token.replace("-", "").replace("_", "").isalnum()


@given(keys, st.binary(max_size=8), st.binary(max_size=8))
def test_a_token_is_good_for_its_query_only(key: list[str | int], query: bytes, other: bytes) -> None:
    token = encode_token(query, key)
    if query != other:
        with pytest.raises(InvalidPageToken):
            decode_token(other, token, [type(part) for part in key])


@given(st.text(min_size=1, max_size=60))
def test_tokens_of_others_are_refused(token: str) -> None:
    with pytest.raises(InvalidPageToken) as caught:
        decode_token(b"q", token, (int,))
    assert caught.value.metadata == {"page_token": token}
    assert caught.value.violations[0].field == "page_token"


def test_an_altered_token_is_refused() -> None:
    token = encode_token(b"q", ["flights"])
    for position in range(len(token)):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        try:
            key = decode_token(b"q", changed, (str,))
        except InvalidPageToken:
            continue
        # The last character of base64 has bits that mean nothing.
        assert key == ("flights",)


@pytest.mark.parametrize(
    ("asked", "given_"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_page_sizes(asked: int, given_: int) -> None:
    assert page_size(asked) == given_


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidField, match="page_size is -1"):
        page_size(-1)


def test_a_token_outlives_another_page_size_but_no_other_query() -> None:
    request = pb.ListModelsRequest(page_size=5, show_archived=True)
    token = Page(request, 5, "", (str,)).token(("m",))
    larger = pb.ListModelsRequest(page_size=50, page_token=token, show_archived=True)
    assert Page(larger, 50, token, (str,)).after == ("m",)
    with pytest.raises(InvalidPageToken):
        Page(pb.ListModelsRequest(page_token=token), 0, token, (str,))


def test_a_page_of_huge_items_is_cut_short_but_never_empty() -> None:
    request = pb.ListVersionsRequest(parent="models/m")
    huge = [res.ModelVersion(version=n, description="x" * (PAGE_BYTES * 2 // 5)) for n in range(5)]
    seen: list[int] = []
    token = ""
    while True:
        page = Page(request, 3, token, (int,))
        rest = huge[page.after[0] + 1 if page.after else 0 :][: page.limit]
        messages, token = page.cut(rest, lambda version: version, lambda version: (version.version,))
        assert len(messages) == (2 if len(rest) > 1 else 1)
        seen += [message.version for message in messages]
        if not token:
            break
    assert seen == [0, 1, 2, 3, 4]
    alone = [res.ModelVersion(version=7, description="x" * (PAGE_BYTES + 1))] * 2
    messages, token = Page(request, 9, "", (int,)).cut(alone, lambda item: item, lambda item: (item.version,))
    assert (len(messages), bool(token)) == (1, True)


files = st.lists(
    st.builds(
        ModelFile,
        path=st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?", fullmatch=True),
        sha256=st.binary(max_size=4).map(lambda content: hashlib.sha256(content).hexdigest()),
        size_bytes=st.just(1),
        media_type=st.just(""),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda file: file.path,
)


@given(files, st.randoms())
def test_a_manifest_digest_is_of_the_content_not_of_the_order(
    given_: list[ModelFile], random: object
) -> None:
    first = manifest_digest(given_)
    shuffled = sorted(given_, key=lambda file: hash((file.path, str(random))))
    assert manifest_digest(shuffled) == first
    changed = [*given_[:-1], ModelFile(given_[-1].path + "x", given_[-1].sha256, 1, "")]
    assert manifest_digest(changed) != first


def test_anybody_can_recompute_a_manifest_digest(tmp_path: Path) -> None:
    contents = {"model.txt": b"tree", "a/b.json": b"{}"}
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    shell = "sha256sum model.txt a/b.json | LC_ALL=C sort | sha256sum | cut -c1-64"
    result = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True)
    digest = manifest_digest(
        ModelFile(path, hashlib.sha256(content).hexdigest(), len(content), "")
        for path, content in contents.items()
    )
    assert digest == f"sha256:{result.stdout.strip()}"


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_etags_differ_between_states_and_resources(one: int, other: int) -> None:
    assert (etag("models/a", one) == etag("models/a", other)) == (one == other)
    assert etag("models/a", one) != etag("models/b", one)
