"""Sessions of SPTPS over datagrams, without I/O: for VPN packets between two nodes (sptps 2.2, 5).

An error drops one datagram, and the session stays as it was. Not here: who a session is with, which of two sessions
with the same node is used, and what records mean.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import DatagramError
from gmesh.proto.packet import NotAuthentic
from gmesh.proto.sptps import MAX_DATA, Record, Session, SptpsEvent
from gmesh.proto.sptps_flow import (
    APPLICATION_RECORDS,
    DEFAULT_REPLAY_WINDOW,
    HANDSHAKE_RECORD,
    OVERHEAD,
    DatagramFlow,
    FlowState,
)
from gmesh.proto.sptps_handshake import (
    ConfirmReceiveKey,
    Entropy,
    Handshake,
    HandshakeFinished,
    HandshakeState,
    RecordSuite,
    SendHandshake,
    StageReceiveKey,
    Step,
    UseSendKey,
    tinc_only,
)

MAX_EARLY_BYTES = 131072
"""Datagrams under the responder's new key that overtake its SIG, in all, wait for it up to this size."""


class DatagramSession(Session):
    """A session over datagrams. Raises DatagramError for one that is to be dropped, and goes on.

    The flow may be lent to another engine: then that one opens and seals, gives the data of handshake records to
    `receive_handshake`, and performs what `take_steps` says.
    """

    def __init__(
        self,
        *,
        initiator: bool,
        private_key: Ed25519PrivateKey,
        peer_public: bytes,
        label: bytes,
        entropy: Entropy,
        now: float,
        replay_window: int = DEFAULT_REPLAY_WINDOW,
        make_nonce: Callable[[], bytes] | None = None,
        choose_suite: Callable[[bytes, bytes], RecordSuite] = tinc_only,
    ) -> None:
        """Keys and label as in sptps 1; ``replay_window`` is in bytes."""
        super().__init__(
            Handshake(
                initiator=initiator,
                private_key=private_key,
                peer_public=peer_public,
                label=label,
                entropy=entropy,
                error=DatagramError,
                make_nonce=make_nonce,
                choose_suite=choose_suite,
            ),
            DatagramError,
            now,
        )
        self._flow: DatagramFlow | None = DatagramFlow.new(replay_window)
        self._output: list[bytes] = []
        self._steps: list[Step] = []
        self._early: list[bytes] = []
        self._perform(self._handshake.start(), now)

    def __repr__(self) -> str:
        return f"DatagramSession({self._handshake!r}, {'here' if self._flow is not None else 'lent'})"

    @property
    def worn(self) -> bool:
        """Whether a new session is due because record numbers come to an end; False while the flow is lent."""
        return self._flow is not None and self._flow.worn

    def receive(self, datagram: bytes, now: float) -> list[SptpsEvent]:
        """Take one datagram. Raises DatagramError where it is dropped; then nothing has changed.

        Datagrams that overtook the end of a handshake are kept, and their events come when it has ended.
        """
        flow = self._at_home()
        try:
            kind, data, number = flow.open(datagram, now)
        except NotAuthentic:
            if self._keep_early(datagram):
                return []
            raise
        if kind < APPLICATION_RECORDS:
            if not flow.receives_encrypted:
                raise DatagramError("an application record before the handshake was finished")
            flow.accept(number)
            return [Record(kind, data)]
        if kind != HANDSHAKE_RECORD:
            raise DatagramError(f"a record of the unknown type {kind}")
        steps = self._take_handshake(data, now)
        flow.accept(number)
        events = self._perform(steps, now)
        if self._early and self._handshake.state is not HandshakeState.SIG:
            events += self._replay_early(now)
        return events

    def send_record(self, kind: int, data: bytes) -> bytes:
        """The datagram of an application record. Raises DatagramError when the record numbers are used up."""
        flow = self._at_home()
        if not self.established:
            raise RuntimeError("records are sent after the first handshake only")
        if not 0 <= kind < APPLICATION_RECORDS or len(data) > MAX_DATA:
            raise ValueError("no application record")
        return flow.seal(kind, data)

    def data_to_send(self) -> list[bytes]:
        """Datagrams of handshake records, in order, which travel over meta connections; they leave the session."""
        output, self._output = self._output, []
        return output

    def renew(self, now: float) -> None:
        """Begin to renew the keys; nothing happens while a handshake is under way."""
        self._perform(self._handshake.start(), now)

    # The flow elsewhere

    def export_flow(self) -> FlowState:
        """Lend keys, numbers and window to another engine, which is the only one to use them from now on."""
        flow = self._at_home()
        if not self.established:
            raise RuntimeError("a flow is lent after the first handshake only")
        self._flow = None
        return flow.state()

    def import_flow(self, state: FlowState) -> None:
        """Take back what `export_flow` lent, as it is now. Steps must have been performed."""
        if self._flow is not None or self._steps:
            raise RuntimeError("the flow is here, or has steps to be performed")
        self._flow = DatagramFlow(state)

    def receive_handshake(self, data: bytes, now: float) -> list[SptpsEvent]:
        """The data of a handshake record that the engine opened. Raises DatagramError where it is refused."""
        return self._perform(self._take_handshake(data, now), now)

    def take_steps(self) -> list[Step]:
        """What the engine that holds the flow has to do, in this order."""
        steps, self._steps = self._steps, []
        return steps

    def _give_up(self) -> None:
        self._early.clear()

    def _at_home(self) -> DatagramFlow:
        if self._flow is None:
            raise RuntimeError("the flow is lent to another engine")
        return self._flow

    def _keep_early(self, datagram: bytes) -> bool:
        """Keep what may be under the keys that the responder has already and we have not.

        Only an initiator that waits for SIG is in that place: a responder knows the keys before anyone uses them.
        """
        if not self.initiator or self._handshake.state is not HandshakeState.SIG or len(datagram) < OVERHEAD:
            return False
        if sum(map(len, self._early)) + len(datagram) > MAX_EARLY_BYTES:
            return False
        self._early.append(datagram)
        return True

    def _replay_early(self, now: float) -> list[SptpsEvent]:
        early, self._early = self._early, []
        events: list[SptpsEvent] = []
        for datagram in early:
            try:
                events += self.receive(datagram, now)
            except DatagramError:
                continue
        return events

    def _perform(self, steps: list[Step], now: float) -> list[SptpsEvent]:
        events: list[SptpsEvent] = []
        flow = self._flow
        for step in steps:
            if isinstance(step, HandshakeFinished):
                events.append(step)
            elif flow is None:
                self._steps.append(step)
            else:
                output = perform_step(flow, step, now)
                if output is not None:
                    self._output.append(output)
        self._watch(now)
        return events


def perform_step(flow: DatagramFlow, step: Step, now: float) -> bytes | None:
    """Do what the handshake asks for with a flow; returns the datagram that is to be sent, if there is one."""
    match step:
        case SendHandshake():
            return flow.seal(HANDSHAKE_RECORD, step.data)
        case UseSendKey():
            flow.use_send_key(step.key)
        case StageReceiveKey():
            flow.stage_receive_key(step.key)
        case ConfirmReceiveKey():
            flow.confirm_receive_key(now)
        case HandshakeFinished():
            pass
    return None
