"""Forwarded headers: which address counts, and what nobody can make us believe."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireroom.core import ConfigurationError
from wireroom.core.wire.forwarded import TrustedProxies, forwarded_secure
from wireroom.core.wire.request import Address, MultiDict

PEER = ("10.0.0.1", 4000)
TRUSTED = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "unix"])


def headers(*values: str, name: str = "X-Forwarded-For") -> MultiDict:
    """One header line a value, among others."""
    lines = [(name, value) for value in values]
    return MultiDict([("Host", "server.example"), *lines, ("Via", "1.1 a")], fold_case=True)


def client(*values: str, peer: Address = PEER) -> Address:
    return TRUSTED.client(headers(*values), peer)


# -- who is trusted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "address", "expected"),
    [
        (["10.0.0.0/8"], ("10.255.0.1", 1), True),
        (["10.0.0.0/8"], ("11.0.0.1", 1), False),
        (["10.0.0.0/255.0.0.0"], ("10.255.0.1", 1), True),
        (["192.0.2.1"], ("192.0.2.1", 1), True),
        (["192.0.2.1"], ("192.0.2.2", 1), False),
        (["192.0.2.9", "192.0.2.1"], ("192.0.2.1", 1), True),
        (["::1"], ("::1", 1), True),
        (["::1"], ("0:0:0:0:0:0:0:1", 1), True),
        (["::1"], ("127.0.0.1", 1), False),
        (["fe80::/10"], ("fe80::1%eth0", 1), True),
        # IPv4 on a dual-stack socket
        (["10.0.0.0/8"], ("::ffff:10.0.0.1", 1), True),
        (["10.0.0.0/8"], ("::ffff:11.0.0.1", 1), False),
        (["::ffff:10.0.0.0/104"], ("10.0.0.1", 1), True),
        (["::ffff:10.0.0.0/104"], ("::ffff:11.0.0.1", 1), False),
        (["::/0"], ("10.0.0.1", 1), False),
        (["0.0.0.0/0"], ("::1", 1), False),
        # Unix sockets
        (["unix"], "", True),
        (["unix"], "/run/client.sock", True),
        (["unix"], None, False),
        (["unix"], ("10.0.0.1", 1), False),
        (["0.0.0.0/0", "::/0"], "/run/client.sock", False),
        (["0.0.0.0/0", "::/0"], None, False),
        (["0.0.0.0/0", "::/0"], ("unix", 1), False),
        (["0.0.0.0/0", "::/0", "unix"], ("", 0), False),
        ([], ("10.0.0.1", 1), False),
        ([], "", False),
    ],
)
def test_addresses_and_networks_are_trusted(
    names: list[str], address: Address, expected: bool
) -> None:
    assert (address in TrustedProxies(names)) is expected
    assert bool(TrustedProxies(names)) is bool(names)


@pytest.mark.parametrize(
    "names",
    [
        "10.0.0.1",
        b"10.0.0.1",
        None,
        10,
        {"10.0.0.1"},
        ["*"],
        [""],
        ["proxy.example"],
        ["10.0.0.1/8"],  # bits of the host are set
        ["10.0.0.0/33"],
        ["10.0.0.1:80"],
        ["[::1]"],
        [" 10.0.0.1"],
        ["UNIX"],
        ["unix:/run/proxy.sock"],
        [0x0A000001],
        [b"\x0a\x00\x00\x01"],
        [None],
        ["10.0.0.1", "nonsense"],
    ],
)
def test_what_names_no_proxy_is_refused(names: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        TrustedProxies(names)
    assert raised.value.setting == "trusted_proxies"


# -- X-Forwarded-For ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], PEER),
        (["192.0.2.7"], ("192.0.2.7", 0)),
        (["192.0.2.7:5678"], ("192.0.2.7", 5678)),
        (["2001:db8::7"], ("2001:db8::7", 0)),
        (["[2001:db8::7]"], ("2001:db8::7", 0)),
        (["[2001:DB8:0::7]:5678"], ("2001:db8::7", 5678)),
        (["::ffff:192.0.2.7"], ("192.0.2.7", 0)),
        (["[::ffff:192.0.2.7]:80"], ("192.0.2.7", 80)),
        ([" \t192.0.2.7\t "], ("192.0.2.7", 0)),
        # what a client has sent itself stands to the left
        (["198.51.100.1, 192.0.2.7"], ("192.0.2.7", 0)),
        (["198.51.100.1", "192.0.2.7"], ("192.0.2.7", 0)),
        (["192.0.2.7", "198.51.100.1, 10.0.0.2"], ("198.51.100.1", 0)),
        (["10.0.0.9, 192.0.2.7"], ("192.0.2.7", 0)),
        (["nonsense,,\x7f, 192.0.2.7"], ("192.0.2.7", 0)),
        # through several trusted proxies
        (["198.51.100.1, 192.0.2.7, 10.0.0.2"], ("192.0.2.7", 0)),
        (["192.0.2.7,10.0.0.2:99,[2001:db8:1::5]:1"], ("192.0.2.7", 0)),
        (["192.0.2.7, ::ffff:10.0.0.2"], ("192.0.2.7", 0)),
        # all are trusted: a request from within
        (["10.0.0.3, 10.0.0.2"], ("10.0.0.3", 0)),
        (["10.0.0.3:7"], ("10.0.0.3", 7)),
        # garbage ends the walk, at whoever passed it on
        (["192.0.2.7, nonsense"], PEER),
        (["192.0.2.7, nonsense, 10.0.0.2:8"], ("10.0.0.2", 8)),
        (["unknown"], PEER),
        (["_hidden"], PEER),
        (["unix:"], PEER),
        ([""], PEER),
        (["192.0.2.7,"], PEER),
        (["192.0.2.7", ""], PEER),
        (["192.0.2.7 10.0.0.2"], PEER),
        (["192.0.2.7;10.0.0.2"], PEER),
        (["192.0.2.07"], PEER),
        (["192.0.2.256"], PEER),
        (["192.0.2"], PEER),
        (["192.0.2.7:"], PEER),
        (["192.0.2.7:65536"], PEER),
        (["192.0.2.7:-1"], PEER),
        (["192.0.2.7:\xb2"], PEER),
        (["192.0.2.7/32"], PEER),
        (["[192.0.2.7]"], PEER),
        (["[2001:db8::7"], PEER),
        (["2001:db8::7]"], PEER),
        (["[2001:db8::7]80"], PEER),
        (["[]"], PEER),
        (["fe80::1%eth0"], PEER),
        (["[fe80::1%<b>]"], PEER),
        (['"192.0.2.7"'], PEER),
        (["3221225991"], PEER),
        (["client.example"], PEER),
    ],
)
def test_the_right_most_address_that_is_no_proxys_is_the_client(
    values: list[str], expected: Address
) -> None:
    assert client(*values) == expected


@pytest.mark.parametrize("peer", ["", "/run/proxy.sock"])
def test_a_proxy_on_a_unix_socket_names_its_client_too(peer: str) -> None:
    assert client("192.0.2.7", peer=peer) == ("192.0.2.7", 0)
    assert client("unix:", peer=peer) == peer


def test_names_of_headers_have_no_case() -> None:
    assert TRUSTED.client(headers("192.0.2.7", name="x-FORWARDED-for"), PEER) == ("192.0.2.7", 0)


FIELD = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)
UNTRUSTED = st.ip_addresses(v=4).filter(lambda ip: ip.packed[0] != 10)


@given(st.lists(FIELD, max_size=3), UNTRUSTED, st.lists(st.just("10.0.0.2"), max_size=3))
def test_nothing_to_the_left_of_the_client_counts(
    before: list[str], ip: object, proxies: list[str]
) -> None:
    chain = ", ".join([*before, str(ip), *proxies])
    assert client(chain) == (str(ip), 0)
    assert client(*before, ", ".join([str(ip), *proxies])) == (str(ip), 0)


@given(st.lists(FIELD, max_size=3))
def test_any_value_gives_an_address(values: list[str]) -> None:
    address = client(*values)
    assert isinstance(address, tuple)
    assert address == PEER or address[0].replace(".", "").replace(":", "").isalnum()


# -- X-Forwarded-Proto --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["https"], True),
        (["wss"], True),
        (["http"], False),
        (["ws"], False),
        (["HTTPS"], True),
        ([" Wss\t"], True),
        # the nearest proxy's is the last
        (["https, http"], False),
        (["http", "https"], True),
        (["nonsense, https"], True),
        (["https, nonsense"], None),
        (["https", ""], None),
        (["https,"], None),
        ([], None),
        ([""], None),
        (["ftp"], None),
        (["https:"], None),
        (["httpss"], None),
        (["on"], None),
        (["\xdf"], None),
    ],
)
def test_the_nearest_proxy_says_whether_the_client_used_tls(
    values: list[str], expected: bool | None
) -> None:
    assert forwarded_secure(headers(*values, name="X-Forwarded-Proto")) is expected
