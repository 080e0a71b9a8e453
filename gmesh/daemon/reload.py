"""What a changed configuration leads to: exactly what changed, and nothing else (requirements 8 and 21).

Not here: reading it (`gmesh.config`), and who asked for the reload.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gmesh.config.notices import Notice
from gmesh.config.server import Server
from gmesh.daemon.configuration import credentials, mesh_settings, route_settings
from gmesh.daemon.hub import Hub
from gmesh.daemon.logging_setup import NOTICE, log
from gmesh.daemon.outgoing import Outgoing
from gmesh.errors import ConfigError, PeerError
from gmesh.net.peer import PeerConnection


@dataclass(slots=True)
class Reloader:
    """Holds what is in force, so that the next reload knows what differs."""

    server: Server
    hub: Hub
    outgoing: Outgoing
    clock: Callable[[], float]
    follow_mode: Callable[[str], bool] = lambda mode: True
    """Tells the device of the mode that is in force from now on; False where it cannot serve it."""
    report: list[str] = field(default_factory=list)
    """What the last reload has changed, what needs a restart, or why nothing has changed; a line each."""

    def reload(self) -> bool:
        """Read everything anew. False, with the reasons in the log, when it is wrong: then nothing has changed."""
        try:
            server = self.server.directory.server()
            if server.name != self.server.name:
                raise ConfigError(
                    f"Name changed from {self.server.name} to {server.name}: restart to use it", key="Name"
                )
            need_restart = server.keep_restart_only(self.server)
            settings = mesh_settings(server, self.hub.settings.port, sptps=self.hub.keys.private_key is not None)
            routes = route_settings(server, tap=self.hub.route_settings.tap)
        except ConfigError as error:
            self.report = str(error).splitlines()
            for line in self.report:
                log(0, logging.ERROR, line)
            log(0, logging.ERROR, "Unable to reread the configuration: the old one stays in force")
            return False
        if not self.follow_mode(routes.mode):
            self.report = [f"Mode {routes.mode} needs another device: restart gmeshd to use it"]
            log(0, logging.ERROR, self.report[0])
            return False
        log_notices(server.notices)
        restarts = [f"{name} has changed: restart gmeshd to use the new value" for name in need_restart]
        for line in restarts:
            log(0, logging.WARNING, line)
        previous, self.server = self.server, server
        if self.hub.keys.refresh(everything=True):
            self.hub.keys_changed()
        if settings != self.hub.settings:
            self.hub.settings = settings
            self.hub.perform(self.hub.mesh.set_settings(settings, self.clock()))
        self.hub.route_settings = routes
        self.hub.install_routes()
        self.outgoing.follow(server)
        added, removed = self.outgoing.keep(server.connect_to)
        changed = self._close_changed()
        self.outgoing.nudge()
        changes = _changes(previous, server, added, removed, changed)
        log(0, NOTICE, f"Configuration reloaded: {'; '.join(changes) or 'no connection and no subnet has changed'}")
        self.report = [*changes, *restarts]
        return True

    def _close_changed(self) -> list[str]:
        """Close connections that would not be made like this any more; returns the names of their nodes.

        Keys and connection options are exchanged when a connection is made, so it has to be made anew.
        """
        changed = []
        for peer in list(self.hub.peers.values()):
            if peer.meta.credentials is not None and not self._is_up_to_date(peer):
                changed.append(peer.name)
                peer.close(f"Host config file of {peer.name} has been changed")
        return list(dict.fromkeys(changed))

    def _is_up_to_date(self, peer: PeerConnection) -> bool:
        try:
            now = credentials(self.server, peer.meta.name, self.hub.keys)
        except PeerError:
            return False
        return peer.meta.credentials == now


def log_notices(notices: Iterable[Notice]) -> None:
    """Everything that is worth telling the administrator about the files."""
    for notice in notices:
        log(0, int(notice.level), str(notice))


def _changes(previous: Server, server: Server, added: list[str], removed: list[str], changed: list[str]) -> list[str]:
    return [
        *(f"now connecting to {name}" for name in added),
        *(f"no longer connecting to {name}" for name in removed),
        *(f"reconnecting to {name}, whose host file has changed" for name in changed),
        *(f"subnet {subnet} added" for subnet in server.subnets if subnet not in previous.subnets),
        *(f"subnet {subnet} removed" for subnet in previous.subnets if subnet not in server.subnets),
    ]
