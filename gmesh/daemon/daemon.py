"""The daemon: builds every room, hands each what it needs, and sees to the order of start and stop.

Not here: what happens in between (`hub.py`, `backend.py`, `reload.py`), and the command line (`gmesh.cli.gmeshd`).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
import gevent.event

from gmesh import __version__
from gmesh.config.directory import Directory
from gmesh.config.lexer import parse_overrides
from gmesh.config.own_keys import OwnKeys, load_own_keys
from gmesh.config.paths import RuntimeFiles, config_base, identity
from gmesh.config.server import Server
from gmesh.daemon import detach, privileges
from gmesh.daemon.activation import take_listeners
from gmesh.daemon.backend import Backend
from gmesh.daemon.configuration import (
    credentials,
    mesh_settings,
    route_settings,
    socket_options,
)
from gmesh.daemon.control_server import ControlServer
from gmesh.daemon.graph_dump import GraphDump
from gmesh.daemon.hub import Hub
from gmesh.daemon.invitations import InvitationDesk
from gmesh.daemon.known_keys import KnownKeys
from gmesh.daemon.late_imports import import_late_modules
from gmesh.daemon.legacy_dump import DeviceStatistics, dump_all, dump_connections
from gmesh.daemon.listening import SocketPair, open_sockets, pair_with
from gmesh.daemon.logging_setup import NOTICE, DaemonLog, log
from gmesh.daemon.memory import keep_small
from gmesh.daemon.name_helper import NameHelper
from gmesh.daemon.notify import Notifier
from gmesh.daemon.options import DaemonOptions
from gmesh.daemon.outgoing import Outgoing
from gmesh.daemon.peers import PeerMaker
from gmesh.daemon.pidfile import PidFile, PidRecord, make_cookie
from gmesh.daemon.reload import Reloader, log_notices
from gmesh.daemon.scripts import ScriptQueue, ScriptSettings
from gmesh.daemon.signals import SignalActions, Signals
from gmesh.daemon.standby import Standby
from gmesh.daemon.supervisor import Supervisor
from gmesh.dataplane.contract import DataPlane, Upcall
from gmesh.dataplane.slow import SlowDataPlane
from gmesh.device.base import Device
from gmesh.device.choose import follow_mode, open_device
from gmesh.device.tap import TapDevice
from gmesh.errors import GmeshError, KeyFileError
from gmesh.mesh.actions import Dial, StopDialling
from gmesh.net.addresses import open_notifications, watch_addresses
from gmesh.net.listener import Listener
from gmesh.net.strangers import Strangers
from gmesh.net.turnstile import Turnstile

LOG_TICK = 1.0
"""Seconds between looks at log lines that were held back."""


def run(options: DaemonOptions) -> int:
    """Run a daemon until it is stopped; returns the exit code (daemon-cli 2)."""
    umbilical = detach.umbilical_from_environment(os.environ)
    base = config_base(options.netname, options.confbase)
    daemon_log = DaemonLog(identity(options.netname), options.debug)
    daemon_log.add_stderr()
    notifier = Notifier.from_environment(os.environ, os.getpid())
    try:
        listeners = take_listeners(os.environ, os.getpid())
        directory = Directory(base, options.netname, parse_overrides(options.overrides))
        server = directory.server()
        keys = load_own_keys(server)
        files = RuntimeFiles.choose(options.netname, directory.base, options.pidfile)
        pid_file = _take_pid_file(str(files.pid), options.netname or "")
        if options.detach:
            umbilical = detach.detach(umbilical)
            gevent.reinit()
    except (GmeshError, OSError) as error:
        _say(error)
        daemon_log.close()
        return 1
    daemon = Daemon(
        options=options,
        server=server,
        keys=keys,
        daemon_log=daemon_log,
        files=files,
        pid_file=pid_file,
        listeners=listeners,
        notifier=notifier,
    )
    daemon.choose_log(umbilical)
    try:
        daemon.start()
        if umbilical is not None:
            umbilical.ready()
        notifier.ready()
        daemon.serve()
        return daemon.exit_code
    except (GmeshError, OSError) as error:
        _say(error)
        return 1
    finally:
        notifier.stopping()
        daemon.stop()
        notifier.close()
        daemon_log.close()


def _take_pid_file(path: str, netname: str) -> PidFile:
    try:
        return PidFile.acquire(path, netname)
    except OSError as error:
        raise GmeshError(f"Could not write pid file {path}: {error.strerror}; --pidfile names another place") from None


def _say(error: Exception) -> None:
    for line in str(error).splitlines():
        log(0, logging.ERROR, line)


class Daemon:
    """One running daemon. `start`, `serve`, `stop`; the last is safe after a start that failed half-way."""

    def __init__(
        self,
        *,
        options: DaemonOptions,
        server: Server,
        keys: OwnKeys,
        daemon_log: DaemonLog,
        files: RuntimeFiles,
        pid_file: PidFile,
        listeners: Sequence[Any] = (),
        notifier: Notifier | None = None,
    ) -> None:
        self.exit_code = 0
        self._options = options
        self._server = server
        self._keys = keys
        self._log = daemon_log
        self._files = files
        self._pid_file = pid_file
        self._listeners = listeners
        self._notifier = notifier or Notifier()
        self._clock: Callable[[], float] = time.monotonic
        self._end = gevent.event.Event()
        self._supervisor = Supervisor(self._fatal)
        self._undo = contextlib.ExitStack()
        self._very_last = contextlib.ExitStack()

    def choose_log(self, umbilical: detach.Umbilical | None) -> None:
        """From standard error to where the log belongs; the starter hears of everything until the daemon is ready."""
        options = self._options
        if not options.debug:
            self._log.debug = self._server.get_int("LogLevel")
        if options.logfile is not None:
            self._log.remove_all()
            path = options.logfile or str(self._files.log)
            logs_to_file = self._log.add_file(path)
        elif options.syslog or options.detach:
            self._log.remove_all()
            self._log.add_syslog()
        if umbilical is not None and options.detach:
            self._log.add_umbilical(umbilical)
            if options.logfile is not None and not logs_to_file:
                log(0, logging.ERROR, f"Could not open log file {path}: nothing will be logged")

    # Start

    def start(self) -> None:
        """Everything in order (daemon-cli 2). Raises GmeshError or OSError; `stop` undoes what was done."""
        undo, server, options = self._undo, self._server, self._options
        self._very_last.callback(self._pid_file.remove)
        with contextlib.suppress(OSError):
            os.chdir(server.directory.base)
        log(0, NOTICE, f"gmeshd {__version__} starting, debug level {self._log.debug}")
        if options.netname_warning:
            log(0, logging.WARNING, options.netname_warning)
        log_notices(server.notices)
        log_notices(self._keys.notices)
        log(0, NOTICE, self._keys.protocols)
        self._compare_own_keys()
        if options.lock_memory:
            privileges.lock_memory()
        device = self._open_device()
        pairs = self._open_sockets()
        scripts = self._make_scripts(device)
        self._make_hub(device, pairs, scripts)
        self._make_outgoing(pairs)
        control = self._open_control(pairs)
        self._install_signals(device)
        for name, function in (
            ("scripts", scripts.run),
            ("timers", self.hub.keep_time),
            ("routes", self.hub.keep_routes),
            ("graph", self._graph_dump.run),
            ("log", self._keep_log),
            ("memory", keep_small),
            ("keys", self.hub.keys.keep),
            ("addresses", self._watch_addresses),
        ):
            self._supervisor.spawn(name, function, policy="restart")
        undo.callback(self._supervisor.kill_all, keep=("scripts", "control"))
        undo.callback(scripts.finish)
        if self._standby is None:
            scripts.tinc(up=True)
            undo.callback(scripts.tinc, up=False)
        else:
            undo.callback(self._standby.end)
        scripts.wait()
        self.hub.perform(self.hub.mesh.start(self._clock()))
        undo.callback(self._leave_mesh)
        scripts.wait()
        self._drop_privileges(control)
        self.hub.plane.start()
        undo.callback(self.hub.plane.stop)
        self._listen(pairs)
        log(0, NOTICE, "Ready")
        self._supervisor.spawn("watchdog", self._notifier.watch)
        self.outgoing.keep(server.connect_to)

    def _compare_own_keys(self) -> None:
        """Nobody needs our public keys here, peers have their own copies: only what is wrong is worth a word."""
        server, keys = self._server, self._keys
        with contextlib.suppress(KeyFileError):
            if keys.rsa is not None and server.rsa_public_key() != keys.rsa.public:
                self._warn_of_public("RSA")
        with contextlib.suppress(KeyFileError):
            if keys.ed25519 is not None and server.ed25519_public_key() not in (None, keys.ed25519.public):
                self._warn_of_public("Ed25519")

    def _warn_of_public(self, kind: str) -> None:
        file = self._server.directory.host_file(self._server.name)
        text = f"The public {kind} key in {file} does not belong to our private key: peers that have it will refuse us"
        log(0, logging.WARNING, text)

    def _open_device(self) -> Device:
        server = self._server
        device = open_device(
            server.get_str("DeviceType"),
            server.get_str("Mode"),
            server.get_str("Device"),
            server.get_str("Interface"),
            server.netname or "",
            one_queue=server.get_bool("IffOneQueue"),
            note=lambda debug, text: log(debug, logging.INFO, text, "device"),
        )
        self._undo.callback(device.close)
        log(0, logging.INFO, device.description)
        return device

    def _open_sockets(self) -> list[SocketPair]:
        options = socket_options(self._server)
        pairs = pair_with(self._listeners, options) if self._listeners else open_sockets(options)
        for pair in pairs:
            self._undo.callback(pair.udp.close)
            self._undo.callback(pair.tcp.close)
        return pairs

    def _make_scripts(self, device: Device) -> ScriptQueue:
        self._device = device
        return ScriptQueue(self._script_settings(), lambda: self._log.debug)

    def _script_settings(self) -> ScriptSettings:
        server = self._server
        return ScriptSettings(
            confbase=str(server.directory.base),
            name=server.name,
            netname=server.netname or "",
            device=self._device.name,
            interface=self._device.interface,
            interpreter=server.get_str("ScriptsInterpreter"),
            extension=server.get_str("ScriptsExtension"),
        )

    def _make_hub(self, device: Device, pairs: list[SocketPair], scripts: ScriptQueue) -> None:
        def make_plane(upcall: Upcall) -> DataPlane:
            return SlowDataPlane(
                name=self._server.name,
                device=device,
                sockets=[pair.udp for pair in pairs],
                upcall=upcall,
                clock=self._clock,
                replay_window=self._server.get_int("ReplayWindow"),
                spawn=self._supervisor.spawn,
            )

        self.scripts = scripts
        self._standby = Standby(scripts) if self._server.get_bool("DeviceStandby") else None
        self.hub = Hub(
            mesh_settings(self._server, pairs[0].address.port, sptps=self._keys.ed25519 is not None),
            route_settings=route_settings(self._server, tap=isinstance(device, TapDevice)),
            clock=self._clock,
            scripts=self._standby or scripts,
            keys=KnownKeys(self._keys.ed25519, self._server.directory),
            lookup=lambda name: credentials(self._server, name, self.hub.keys),
            plane=make_plane,
            lost=self._lost,
            redial=self._redial,
            dial=self._dial,
        )
        self.hub.invite = InvitationDesk(
            server=lambda: self._server,
            hub=self.hub,
            scripts=scripts,
            clock=self._clock,
            spawn=self._supervisor.spawn,
        ).handle
        self._peer = PeerMaker(
            name=self._server.name,
            keys=self._keys,
            hub=self.hub,
            max_output=lambda: self._server.get_int("MaxOutputBufferSize"),
            clock=self._clock,
            spawn=self._supervisor.spawn,
        )
        self._graph_dump = GraphDump(self.hub.mesh.registry, lambda: self._server.get_str("GraphDumpFile"))
        self.hub.on_routes.append(self._graph_dump.changed.set)
        if self._standby is not None:
            self.hub.on_routes.append(self._standby.settle)

    def _lost(self, name: str) -> None:
        self.outgoing.lost(name)

    def _redial(self, name: str) -> None:
        self.outgoing.nudge(name)

    def _dial(self, action: Dial | StopDialling) -> None:
        self.outgoing.follow_policy(action)

    def _make_outgoing(self, pairs: list[SocketPair]) -> None:
        server = self._server
        self.outgoing: Outgoing = Outgoing(
            server,
            hub=self.hub,
            pairs=pairs,
            connection=lambda sock, address, name: self._peer(sock, address, outgoing=True, name=name),
            supervisor=self._supervisor,
            clock=self._clock,
        )
        self.reloader = Reloader(
            server, self.hub, self.outgoing, self._clock, lambda mode: follow_mode(self._device, mode)
        )

    def _open_control(self, pairs: list[SocketPair]) -> ControlServer:
        cookie = make_cookie()
        first = pairs[0].address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host)
        self.backend = Backend(
            hub=self.hub,
            outgoing=self.outgoing,
            daemon_log=self._log,
            clock=self._clock,
            stop=self._end.set,
            reload=self._reload,
            reload_report=lambda: self.reloader.report,
        )
        control = ControlServer(self.backend, self._supervisor, self._log, cookie)
        control.listen(str(self._files.socket))
        self.hub.adopt = control.adopt
        self._undo.callback(control.close)
        self._pid_file.write(PidRecord(os.getpid(), cookie, host, first.port))
        return control

    def _install_signals(self, device: Device) -> None:
        signals = Signals(
            SignalActions(
                stop=self._end.set,
                reload=self._hang_up,
                retry=self.backend.retry,
                dump_connections=lambda: _dump(dump_connections(self.backend.connections(), self.backend.queued)),
                dump_all=lambda: _dump(
                    dump_all(
                        DeviceStatistics(
                            device.description, device.name, device.statistics.bytes_in, device.statistics.bytes_out
                        ),
                        self.backend.nodes(),
                        self.backend.edges(),
                        self.backend.subnets(),
                    )
                ),
                purge=self.backend.purge,
            )
        )
        signals.install()
        self._undo.callback(signals.remove)

    def _drop_privileges(self, control: ControlServer) -> None:
        server, options = self._server, self._options
        if server.get_str("ProcessPriority"):
            privileges.set_priority(server.get_str("ProcessPriority"))
        if options.user is None and not options.chroot:
            return
        user = privileges.find_user(options.user) if options.user else None
        if user is not None:
            directory = server.directory
            names = [str(directory.hosts), *(str(directory.host_file(name)) for name in directory.host_names())]
            for path in privileges.unreadable_for(user, names):
                log(0, logging.WARNING, f"{path} will not be readable for user {user.pw_name}: change its mode")

        def clean_up() -> None:
            self._pid_file.remove()
            control.remove_socket()

        janitor = privileges.Janitor(clean_up)
        self._very_last.callback(janitor.close)
        if options.chroot:
            names_helper = NameHelper(user)
            self._undo.callback(names_helper.close)
            self.outgoing.look_up_by(names_helper.ask)
            self._supervisor.spawn("names", names_helper.run)
        import_late_modules()
        keep = privileges.needed_capabilities(
            mark=bool(server.get_int("FWMark")), interface=bool(server.get_str("BindToInterface"))
        )
        privileges.drop(user, str(server.directory.base) if options.chroot else None, keep)
        if options.chroot:
            # From here on CONFBASE is the root: for host files, reloads and scripts.
            server.directory.base = Path("/")
            self.scripts.settings = self._script_settings()

    def _listen(self, pairs: list[SocketPair]) -> None:
        strangers = Strangers(Turnstile(self._clock))
        for pair in pairs:
            listener = Listener(
                pair.tcp,
                strangers=strangers,
                connection=self._peer,
                spawn=self._supervisor.spawn,
                log=lambda debug, text, key: log(debug, logging.INFO, text, key),
            )
            listener.start()
            self._undo.callback(listener.stop)

    # While it runs

    def serve(self) -> None:
        """Return when somebody has asked for the end."""
        # What the start has made lives as long as we do: a full collection that looked at all of it would hold up
        # every packet for ten milliseconds and more.
        gc.collect()
        gc.freeze()
        self._end.wait()

    def _fatal(self, reason: str) -> None:
        log(0, logging.CRITICAL, f"Cannot go on: {reason}")
        self.exit_code = 1
        self._end.set()

    def _hang_up(self) -> None:
        self._log.reopen()
        self._reload()

    def _reload(self) -> bool:
        self._notifier.reloading()
        done = self.reloader.reload()
        self._notifier.ready()
        if done:
            self._server = self.reloader.server
            self._graph_dump.changed.set()
            self.scripts.settings = self._script_settings()
        return done

    def _keep_log(self) -> None:
        while True:
            gevent.sleep(LOG_TICK)
            self._log.tick()

    def _watch_addresses(self) -> None:
        try:
            notifications = open_notifications()
        except OSError as error:
            log(1, logging.INFO, f"Changes of addresses are not watched: {error.strerror}")
            return
        watch_addresses(notifications, self._addresses_changed, self._is_own_interface)

    def _addresses_changed(self) -> None:
        log(1, logging.INFO, "Addresses of this machine have changed", "addresses")
        self.hub.addresses_changed()
        self.outgoing.nudge()

    def _is_own_interface(self, index: int) -> bool:
        try:
            return socket.if_indextoname(index) == self._device.interface
        except OSError:
            return False

    # Stop

    def _leave_mesh(self) -> None:
        self.outgoing.end("stopping")
        self.hub.perform(self.hub.mesh.stop(self._clock()))

    def stop(self) -> None:
        """Undo the start in the opposite order; one step that fails does not keep the others from happening."""
        log(0, NOTICE, "Terminating")
        for steps in (self._undo, self._very_last):
            try:
                steps.close()
            except Exception as error:
                log(0, logging.ERROR, f"Internal error while stopping: {error}", exception=error)


def _dump(lines: Any) -> None:
    for line in lines:
        log(0, logging.DEBUG, line)
