"""Making the object that serves a meta connection, with the keys and options of this daemon. Not here: its socket."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from gmesh.config.own_keys import OwnKeys
from gmesh.daemon.hub import Hub
from gmesh.mesh.outbox import Outbox
from gmesh.net.peer import PeerConnection, Spawn
from gmesh.proto.meta_start import MetaStart
from gmesh.values import Address


class PeerMaker:
    """``max_output`` is MaxOutputBufferSize in bytes."""

    def __init__(
        self,
        *,
        name: str,
        keys: OwnKeys,
        hub: Hub,
        max_output: Callable[[], int],
        clock: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        self._name = name
        self._keys = keys
        self._hub = hub
        self._max_output = max_output
        self._clock = clock
        self._spawn = spawn

    def __call__(self, sock: Any, address: Address, *, outgoing: bool = False, name: str = "") -> PeerConnection:
        """For an accepted socket, or for one that was connected to the node ``name``."""
        settings = self._hub.settings
        exchange = outgoing and name in self._hub.to_exchange
        self._hub.to_exchange.discard(name)
        meta = MetaStart(
            outgoing=outgoing,
            my_name=self._name,
            rsa_key=self._keys.rsa,
            ed25519_key=self._keys.ed25519,
            expected_name=name,
            credentials=self._hub.credentials,
            entropy=os.urandom,
            now=self._clock(),
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            port=settings.port,
            exchange=exchange,
        )
        return PeerConnection(
            sock=sock,
            address=address,
            meta=meta,
            outbox=Outbox(self._max_output()),
            hub=self._hub,
            clock=self._clock,
            spawn=self._spawn,
            outgoing=outgoing,
            name=name,
        )
