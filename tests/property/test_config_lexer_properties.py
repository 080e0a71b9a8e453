"""Nothing that a file can hold makes the configuration room raise anything but ConfigError."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmesh.config.check import check
from gmesh.config.directory import Directory
from gmesh.config.lexer import parse, parse_override
from gmesh.config.settings import all_options
from gmesh.errors import ConfigError

NAMES = [option.name for option in all_options().values()]
LINES = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda name, glue, value: name.encode() + glue + value,
        st.sampled_from(NAMES),
        st.sampled_from([b"=", b" = ", b" ", b"\t=="]),
        st.one_of(
            st.binary(max_size=30),
            st.integers().map(lambda number: str(number).encode()),
            st.sampled_from([b"yes", b"no", b"$HOST", b"10.0.0.0/8", b"a b c", b"host 1", "\u00a0".encode(), b"\x85"]),
        ),
    ),
    st.sampled_from([b"-----BEGIN RSA PUBLIC KEY-----", b"-----END RSA PUBLIC KEY-----", b"Name = a", b"\xff\xfe"]),
)
FILES = st.lists(LINES, max_size=12).map(b"\n".join)


@given(st.binary(max_size=400))
def test_any_bytes_parse(data: bytes) -> None:
    document = parse(data, "f")
    lines = data.count(b"\n") + 1
    for error in document.errors:
        assert isinstance(error, ConfigError)
        assert 1 <= error.line <= lines
    for entry in document.entries:
        assert entry.key
        assert entry.value
        assert 1 <= entry.line <= lines


@given(st.text(max_size=60))
def test_any_override_parses_or_is_a_config_error(text: str) -> None:
    try:
        override = parse_override(text)
    except ConfigError:
        return
    assert override.entry.value


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("net")
    (base / "hosts").mkdir()
    (base / "conf.d").mkdir()
    return base


@given(tinc_conf=FILES, conf_d=FILES, own=FILES, peer=FILES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_directory_is_read_or_refused(base: Path, tinc_conf: bytes, conf_d: bytes, own: bytes, peer: bytes) -> None:
    (base / "tinc.conf").write_bytes(tinc_conf)
    (base / "conf.d" / "x.conf").write_bytes(conf_d)
    (base / "hosts" / "a").write_bytes(own)
    (base / "hosts" / "b").write_bytes(peer)
    directory = Directory(base, environ={"HOST": "a"})
    messages = [str(notice) for notice in check(directory)]
    host = directory.host("b")
    for read in (host.addresses, host.subnets, host.port, host.weight, host.pmtu, host.tcp_only):
        repr(read)
    try:
        server = directory.server()
    except ConfigError as error:
        messages.append(str(error))
    else:
        for option in all_options().values():
            if option.type == "bool":
                server.get_bool(option.name)
            elif option.type == "int":
                server.get_int(option.name)
            elif option.type != "subnet" and not option.repeatable:
                server.get_str(option.name)
        assert 1 <= server.get_int("PingTimeout") <= server.get_int("PingInterval")
    for message in messages:
        record = logging.makeLogRecord({"msg": message})
        logging.Formatter().format(record).encode("utf-8")
