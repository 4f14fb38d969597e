"""The wire: exactly the fields of the verb, whole numbers in range, everything else is named and refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power.capd.protocol import Code, Refused, Request, encode, parse, refusal


def test_reads_a_set() -> None:
    line = b'{"verb":"set","epoch":3,"uuid":"GPU-1","cap_milliwatt":150000}\n'
    assert parse(line) == Request("set", 3, "GPU-1", 150000)


@pytest.mark.parametrize("verb", ["hello", "take", "read", "quit"])
def test_reads_verbs_without_fields(verb: str) -> None:
    assert parse(encode({"verb": verb})) == Request(verb)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b'{"verb":"restart"}',
        b'{"verb":["set"]}',
        b'{"epoch":1}',
        b'{"verb":"hello","extra":1}',
        b'{"verb":"renew"}',
        b'{"verb":"renew","epoch":true}',
        b'{"verb":"renew","epoch":1.0}',
        b'{"verb":"renew","epoch":"1"}',
        b'{"verb":"renew","epoch":-1}',
        b'{"verb":"renew","epoch":1e99}',
        b'{"verb":"renew","epoch":NaN}',
        b'{"verb":"renew","epoch":' + b"9" * 4000 + b"}",
        b'{"verb":"set","epoch":1,"uuid":"","cap_milliwatt":1}',
        b'{"verb":"set","epoch":1,"uuid":7,"cap_milliwatt":1}',
        b'{"verb":"set","epoch":1,"uuid":"GPU-1","cap_milliwatt":null}',
        b"[" * 4000,
        b"\xff\xfe",
    ],
)
def test_refuses_what_is_not_a_request(line: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse(line)
    assert caught.value.code is Code.MALFORMED
    assert caught.value.detail


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(line: bytes) -> None:
    try:
        answer = {"ok": bool(parse(line).verb)}
    except Refused as error:
        answer = refusal(error)
    assert json.loads(encode(answer)) == answer


@given(
    st.dictionaries(
        st.sampled_from(["verb", "epoch", "uuid", "cap_milliwatt", "x"]),
        st.one_of(
            st.sampled_from(["set", "renew", "hello"]), st.integers(), st.floats(), st.none(), st.booleans()
        ),
    )
)
def test_any_object_is_read_or_refused(message: dict[str, object]) -> None:
    try:
        request = parse(json.dumps(message).encode())
    except Refused:
        return
    assert type(request.epoch) is int
    assert type(request.cap_milliwatt) is int
