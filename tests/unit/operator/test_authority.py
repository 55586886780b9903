"""The certificate authority: verified by OpenSSL through Python's ssl, rotated without a gap."""

import ssl
from datetime import UTC, datetime, timedelta

from stillframe_operator import authority
from stillframe_operator.certs import load_chain

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def shakes_hands(bundle: str, leaf: authority.KeyPair, name: str) -> bool:
    """Whether a client that trusts ``bundle`` accepts ``leaf`` for ``name``: a real handshake."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(server_side, leaf.certificate_pem + leaf.key_pem)
    client_side = ssl.create_default_context(cadata=bundle)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(down, up, server_hostname=name)
    server = server_side.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None


def test_a_leaf_is_accepted_for_its_names_only() -> None:
    ca = authority.new_authority(NOW)
    leaf = authority.new_leaf(ca, ["op.ns.svc", "localhost"], NOW)
    bundle = authority.bundle([ca])
    assert shakes_hands(bundle, leaf, "op.ns.svc")
    assert shakes_hands(bundle, leaf, "localhost")
    assert not shakes_hands(bundle, leaf, "other.ns.svc")
    assert not shakes_hands(authority.bundle([authority.new_authority(NOW)]), leaf, "op.ns.svc")


def test_a_leaf_never_outlives_its_week_or_its_authority() -> None:
    ca = authority.new_authority(NOW)
    assert authority.new_leaf(ca, ["x"], NOW).expires - NOW == timedelta(days=7)
    late = ca.expires - DAY
    assert authority.new_leaf(ca, ["x"], late).expires == ca.expires


def test_what_is_stored_is_what_was_made() -> None:
    pair = [authority.new_authority(NOW), authority.new_authority(NOW + DAY)]
    loaded = authority.load(authority.dump(pair))
    assert [p.certificate for p in loaded] == [p.certificate for p in pair]
    assert [p.key_pem for p in loaded] == [p.key_pem for p in pair]


def test_a_successor_is_trusted_before_it_signs_and_the_old_one_until_it_expires() -> None:
    [old] = authority.rotated([], NOW)
    assert authority.rotated([old], NOW + 200 * DAY) == [old]
    worn = NOW + 244 * DAY
    both = authority.rotated([old], worn)
    assert both[0] == old
    assert len(both) == 2
    assert authority.rotated(both, worn) == both
    assert authority.signer(both, worn) == old
    later = worn + authority.PUBLICATION
    assert authority.signer(both, later) == both[1]
    assert authority.rotated(both, NOW + 366 * DAY) == [both[1]]


def test_the_overlap_leaves_no_client_behind() -> None:
    old = authority.new_authority(NOW - 250 * DAY)
    both = authority.rotated([old], NOW)
    first = authority.new_leaf(authority.signer(both, NOW), ["x"], NOW)
    assert shakes_hands(authority.bundle([old]), first, "x")
    second = authority.new_leaf(authority.signer(both, NOW + DAY), ["x"], NOW)
    assert not shakes_hands(authority.bundle([old]), second, "x")
    for leaf in (first, second):
        assert shakes_hands(authority.bundle(both), leaf, "x")


def test_the_very_first_authority_signs_at_once() -> None:
    [only] = authority.rotated([], NOW)
    assert authority.signer([only], NOW) == only
