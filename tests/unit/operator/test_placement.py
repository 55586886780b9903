"""Where a sample is said to be: an agent may be hostile, and people paste the URL into a shell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillframe_operator.placement import Placement, from_request

from stillframe.errors import InvalidInputError
from stillframe.rpc.v1 import intake_pb2

ID = "ab" * 16
OWN = f"/shop/{ID}/"
GOOD = {"report_id": ID, "namespace": "shop", "name": "web-0123", "uid": "aa-bb"}


def request(**fields: object) -> intake_pb2.PlaceRequest:
    return intake_pb2.PlaceRequest(**(GOOD | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("store", ["s3://evidence", "s3://evi-dence.eu/cluster=1/A_b.c"])
def test_a_good_place_is_taken_as_it_is(store: str) -> None:
    url = f"{store}{OWN}"
    placement = from_request(request(url=url, deleted=True))
    assert placement == Placement(ID, "shop", "web-0123", "aa-bb", url, True)
    assert from_request(request()).url == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("report_id", "../x"),
        ("report_id", ""),
        ("namespace", "shop/.."),
        ("name", "web\n"),
        ("name", ""),
        ("uid", ""),
        ("uid", "x y"),
    ],
)
def test_a_malformed_name_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        from_request(request(**{field: value}))
    assert caught.value.reason == "BadPlace"


@pytest.mark.parametrize(
    "url",
    [
        "s3://evidence/cluster-1",
        f"s3://evidence/shop/{'cd' * 16}/",
        f"s3://evidence/other/{ID}/",
        f"s3://evidence{OWN}x",
        f"s3://evidence{OWN}\n",
        f"s3://evi\ndence{OWN}",
        f"s3://key:secret@evidence{OWN}",
        f"s3://evidence:9000{OWN}",
        f"s3://evidence/x?X-Amz-Signature=0{OWN}",
        f"s3://evidence/#{OWN}",
        f"s3://evidence/$(id){OWN}",
        f"s3://evidence/a b{OWN}",
        f"s3://evidence/'{OWN}",
        f"s3://evidence/\u202e{OWN}",
        f"s3://evidence/{'x' * 512}{OWN}",
        f"s3://e{OWN}",
        f"s3://{OWN}",
        f"https://evidence{OWN}",
        f"javascript://evidence{OWN}",
        f"file:///etc{OWN}",
        OWN,
    ],
)
def test_an_odd_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        from_request(request(url=url))
    assert caught.value.reason == "BadPlace"
    assert "secret" not in str(caught.value)


@given(st.text())
def test_what_is_taken_means_nothing_to_a_shell(prefix: str) -> None:
    url = f"s3://evidence/{prefix}{OWN}"
    try:
        taken = from_request(request(url=url)).url
    except InvalidInputError:
        return
    assert taken.isascii()
    assert not set(taken) - set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:="
    )
