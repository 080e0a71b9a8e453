"""The outgoing connections: one dialer per node that we keep a connection to, and at which addresses it tries.

Not here: the round of addresses and the waiting (`gmesh.net.dialer`), which nodes those are (configuration, control,
`gmesh.mesh.autoconnect`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gevent

from gmesh.config.address_cache import AddressCache, is_link_local
from gmesh.config.server import Server
from gmesh.daemon.configuration import FAMILIES, dial_candidates, socket_options
from gmesh.daemon.hub import Hub
from gmesh.daemon.listening import SocketPair
from gmesh.daemon.logging_setup import log
from gmesh.daemon.supervisor import Supervisor
from gmesh.errors import ConfigError, GmeshError
from gmesh.mesh.actions import Dial, StopDialling
from gmesh.net.backoff import Backoff
from gmesh.net.dialer import Dialer
from gmesh.net.peer import PeerConnection, Spawn, reason_of
from gmesh.net.proxy import ProxyConnector
from gmesh.net.resolver import Resolved, Resolver
from gmesh.proto.proxy import ProxySettings
from gmesh.values import Address

MAX_EDGE_ADDRESSES = 8
"""How many addresses that the mesh has seen a node at are tried after those of its host file."""


class Outgoing:
    """Implements `gmesh.net.dialer.DialerHost`; ``connection`` makes the peer object for a connected socket."""

    def __init__(
        self,
        server: Server,
        *,
        hub: Hub,
        pairs: Sequence[SocketPair],
        connection: Callable[[Any, Address, str], PeerConnection],
        supervisor: Supervisor,
        clock: Callable[[], float],
    ) -> None:
        self.directory = server.directory
        self.spawn: Spawn = supervisor.spawn
        self._resolver = Resolver()
        self._hub = hub
        self._pairs = pairs
        self._connect_timeout = float(server.get_int("PingTimeout"))
        self._connection = connection
        self._supervisor = supervisor
        self._clock = clock
        self._dialers: dict[str, tuple[Dialer, gevent.Greenlet]] = {}
        self._automatic: set[str] = set()
        """Those of the dialers that only AutoConnect wants."""
        self._cache = AddressCache(self.directory)
        hub.on_address = self.remember
        self.follow(server)

    def look_up_by(self, start: Callable[[str, str, int], Any]) -> None:
        """Have names looked up by ``start``, see `Resolver`; to be called before `keep`."""
        self._resolver = Resolver(start=start)

    def keep(
        self, names: Iterable[str], reason: str = "it is no longer in the configuration"
    ) -> tuple[list[str], list[str]]:
        """Have a dialer for each of these nodes, and otherwise only for those that AutoConnect wants.

        Returns the names added and removed.
        """
        wanted = list(dict.fromkeys(names))
        added = [name for name in wanted if name not in self._dialers]
        self._automatic.difference_update(wanted)
        removed = [name for name in self._dialers if name not in wanted and name not in self._automatic]
        for name in removed:
            self._remove(name, reason)
        for name in added:
            self._add(name)
        return added, removed

    def end(self, reason: str) -> None:
        """Close all connections that dialers have made, and dial no more."""
        self._automatic.clear()
        self.keep((), reason)

    def follow_policy(self, action: Dial | StopDialling) -> None:
        """What AutoConnect asks for; it has no say in connections that somebody else wants."""
        name = action.node
        match action:
            case Dial():
                if name not in self._dialers and self.directory.host_exists(name):
                    self._automatic.add(name)
                    self._add(name)
            case StopDialling():
                if name in self._automatic:
                    self._automatic.discard(name)
                    self._remove(name, "AutoConnect does without it")

    def _remove(self, name: str, reason: str) -> None:
        dialer, greenlet = self._dialers.pop(name)
        dialer.hang_up(reason)
        greenlet.kill(block=False)

    def _add(self, name: str) -> None:
        dialer = Dialer(
            name,
            self,
            backoff=Backoff(*self._waits),
            connect_timeout=self._connect_timeout,
            clock=self._clock,
            proxy=lambda: self._proxy,
        )
        self._dialers[name] = (dialer, self._supervisor.spawn(f"dialer {name}", dialer.run, policy="restart"))

    def follow(self, server: Server) -> None:
        """Connections from now on are made as these options say: AddressFamily, BindToInterface, MinTimeout, MaxTimeout
        and Proxy. A server that a reload has read has the old PingTimeout and FWMark."""
        self._family = FAMILIES[server.get_str("AddressFamily")]
        self._udp_options = socket_options(server).udp
        self._waits = float(server.get_int("MinTimeout")), float(server.get_int("MaxTimeout"))
        for dialer, _greenlet in self._dialers.values():
            dialer.backoff.minimum, dialer.backoff.maximum = self._waits
        self._proxy = self._proxy_of(server)

    def _proxy_of(self, server: Server) -> ProxyConnector | None:
        settings = ProxySettings.parse(server.get_str("Proxy"))
        if settings is None:
            return None
        return ProxyConnector(
            settings,
            resolve=self._look_up,
            prepare=self.prepare,
            variables={"NAME": server.name} | ({"NETNAME": server.netname} if server.netname else {}),
            family=self._family,
        )

    def lost(self, name: str) -> None:
        """The active connection to a node has ended."""
        if name in self._dialers:
            self._dialers[name][0].lost()

    def nudge(self, name: str | None = None) -> None:
        """Try now: to reach one node, or all."""
        for each, (dialer, _greenlet) in self._dialers.items():
            if name is None or name == each:
                dialer.nudge()

    def dial(self, name: str) -> bool:
        """Connect to a node that the configuration may not name, until the next reload; False where no file is."""
        if not self.directory.host_exists(name):
            return False
        self._automatic.discard(name)
        if name in self._dialers:
            self.nudge(name)
        else:
            self._add(name)
        return True

    def remember(self, name: str, address: Address) -> None:
        """A neighbour was reached at this address: it is the first to be tried next time, after a restart too."""
        try:
            self._cache.add(name, address)
        except OSError as error:
            # Only a convenience: it is known until we end.
            log(1, logging.INFO, f"Could not write {self._cache.file(name)}: {reason_of(error)}", "address cache")

    # What dialers ask for

    def candidates(self, name: str) -> Sequence[tuple[str, str]]:
        """Where the node was reached before, what its host file says, where others see or saw it (data-sptps 10).

        Link-local addresses count only with a scope, which gossip never has.
        """
        try:
            lines = dial_candidates(self.directory, name)
        except ConfigError as error:
            raise GmeshError(str(error)) from None
        mesh = self._hub.mesh
        node = mesh.registry.node(name)
        edges = () if node is None else mesh.registry.incoming(node)
        seen = [edge.address for edge in edges if edge.address.endpoint][:MAX_EDGE_ADDRESSES]
        found = [(address.host, address.port) for address in self._cache.addresses(name)] + lines
        found += [(address.host, address.port) for address in (*seen, *mesh.autoconnect.addresses(name))]
        usable = [(host, port) for host, port in found if "%" in host or not is_link_local(host)]
        if not usable:
            which = "a link-local address needs its interface, as in fe80::1%eth0; " if lines else ""
            raise GmeshError(f"{which}add an Address line to {self.directory.host_file(name)}")
        return list(dict.fromkeys(usable))

    def resolve(self, host: str, port: str) -> Resolved:
        return self._look_up(host, port, self._family)

    def _look_up(self, host: str, port: str, family: int) -> Resolved:
        return self._resolver.resolve(host, port, family)

    def connected(self, name: str) -> bool:
        return self._hub.peer_of(name) is not None

    def prepare(self, sock: Any, family: int) -> None:
        self._udp_options.prepare(sock)
        ours = [pair for pair in self._pairs if pair.family == family and not pair.listen_only]
        # With exactly one socket of the family its address is the source, as tinc does (meta-legacy 10).
        if len(ours) == 1 and not ours[0].wildcard:
            host, _port, *scope = ours[0].tcp.getsockname()
            sock.bind((host, 0, *scope))

    def connection(self, sock: Any, address: Address, name: str) -> PeerConnection:
        return self._connection(sock, address, name)

    def log(self, debug: int, text: str, key: str = "") -> None:
        log(debug, logging.INFO if debug else logging.ERROR, text, key)
