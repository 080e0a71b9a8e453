//! Packets of one stream become one large packet again, so that the kernel takes them in one go.
//!
//! Packets stay where they are: a large packet is a list of pieces of the buffer. Only packets that are already there
//! are put together, so nothing waits. A packet goes alone unless its checksum is right (the kernel does not check
//! that of a large one), and streams keep their order.
//!
//! Not here: writing to the device.

use super::checksum::{field, fold, pseudo, sum};
use super::headers::{word, Link, ETHERNET, IPV4, IPV6, TCP, UDP};
use super::virtio::{VirtioHeader, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM};

/// Streams that may be open at once.
const SLOTS: usize = 8;
/// Packets in a large one; of UDP the kernel takes no more.
const MAX_TCP: usize = 128;
const MAX_UDP: usize = 64;
const MAX_TOTAL: usize = 65535;

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// A piece of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub start: usize,
    pub len: usize,
}

/// Takes the packets that are to be written: the buffer, the header, and where in the buffer the packet's pieces are.
pub trait Sink {
    fn write(&mut self, buffer: &[u8], header: &VirtioHeader, pieces: &[Piece]);
}

/// Where a packet's headers are, from its own start.
#[derive(Clone, Copy, Debug)]
struct Shape {
    network: usize,
    transport: usize,
    /// Where the payload begins, and the packet ends; the frame may go on with padding.
    payload: usize,
    end: usize,
    ipv6: bool,
    tcp: bool,
}

#[derive(Default)]
struct Slot {
    pieces: Vec<Piece>,
    head: usize,
    shape: Option<Shape>,
    total: usize,
    size: usize,
    next_sequence: u32,
    closed: bool,
}

/// The large packets that are being made.
pub struct Coalescer {
    link: Link,
    udp: bool,
    slots: [Slot; SLOTS],
    used: usize,
}

/// Where the transport header of a packet lies, if it is plain TCP or UDP and whole.
fn shape(packet: &[u8], link: Link) -> Option<Shape> {
    let network = link.header();
    let kind = match link {
        Link::Tun => super::headers::ether_type(packet)?,
        Link::Tap if packet.len() >= ETHERNET => [packet[12], packet[13]],
        Link::Tap => return None,
    };
    let ip = packet.get(network..)?;
    let (protocol, transport, length) = match kind {
        IPV4 => {
            // No options, no fragments.
            if ip.len() < 28 || ip[0] != 0x45 || ip[6] & 0x3f != 0 || ip[7] != 0 {
                return None;
            }
            (ip[9], 20, usize::from(word(ip, 2)))
        }
        IPV6 => {
            if ip.len() < 48 || ip[0] >> 4 != 6 {
                return None;
            }
            (ip[6], 40, 40 + usize::from(word(ip, 4)))
        }
        _ => return None,
    };
    let tcp = protocol == TCP;
    if length > ip.len() || length < transport + if tcp { 20 } else { 8 } || !(tcp || protocol == UDP) {
        return None;
    }
    let payload = transport + if tcp { usize::from(ip[transport + 12] >> 4) * 4 } else { 8 };
    if payload > length || (tcp && payload < transport + 20) {
        return None;
    }
    Some(Shape {
        network,
        transport: network + transport,
        payload: network + payload,
        end: network + length,
        ipv6: kind == IPV6,
        tcp,
    })
}

impl Shape {
    fn addresses(&self) -> std::ops::Range<usize> {
        if self.ipv6 {
            self.network + 8..self.network + 40
        } else {
            self.network + 12..self.network + 20
        }
    }

    fn protocol(&self) -> u8 {
        if self.tcp {
            TCP
        } else {
            UDP
        }
    }

    /// Whether two packets are of one stream.
    fn same_stream(&self, packet: &[u8], other: &Shape, head: &[u8]) -> bool {
        self.ipv6 == other.ipv6
            && self.tcp == other.tcp
            && packet[self.addresses()] == head[other.addresses()]
            && packet[self.transport..self.transport + 4] == head[other.transport..other.transport + 4]
    }

    /// Whether the packet could be part of a large one, its checksum included.
    fn mergeable(&self, packet: &[u8], udp: bool) -> bool {
        if self.payload == self.end {
            return false;
        }
        if self.tcp {
            let flags = packet[self.transport + 13];
            if flags & !PSH != ACK || packet[self.transport + 12] & 0x0f != 0 {
                return false;
            }
        } else if !udp
            || usize::from(word(packet, self.transport + 4)) != self.end - self.transport
            || packet[self.transport + 6..self.transport + 8] == [0, 0]
        {
            return false;
        }
        let transport = &packet[self.transport..self.end];
        fold(pseudo(&packet[self.addresses()], self.protocol(), transport.len()) + sum(transport)) == 0xffff
    }

    /// Whether everything but lengths, numbers and checksums is the same as in the head of a large packet whose
    /// `index`-th packet this would be.
    fn like(&self, packet: &[u8], head: &[u8], index: usize) -> bool {
        let n = self.network;
        if packet[..n] != head[..n] {
            return false;
        }
        let same_network = if self.ipv6 {
            // Version, class, flow label, next header, hop limit.
            packet[n..n + 4] == head[n..n + 4] && packet[n + 6..n + 8] == head[n + 6..n + 8]
        } else {
            let in_row = word(packet, n + 4) == word(head, n + 4).wrapping_add(index as u16);
            let unfragmented = packet[n + 6] & 0x40 != 0;
            packet[n + 1] == head[n + 1]
                && packet[n + 6] == head[n + 6]
                && packet[n + 8] == head[n + 8]
                && (in_row || unfragmented)
        };
        let t = self.transport;
        same_network
            && (!self.tcp
                // Acknowledgement and offset; window; urgent pointer and options.
                || (packet[t + 8..t + 13] == head[t + 8..t + 13]
                    && packet[t + 14..t + 16] == head[t + 14..t + 16]
                    && packet[t + 18..self.payload] == head[t + 18..self.payload]))
    }

    fn sequence(&self, packet: &[u8]) -> u32 {
        let t = self.transport;
        u32::from_be_bytes([packet[t + 4], packet[t + 5], packet[t + 6], packet[t + 7]])
    }
}

impl Coalescer {
    /// `udp` says whether the device takes large UDP packets.
    #[must_use]
    pub fn new(link: Link, udp: bool) -> Self {
        Self { link, udp, slots: Default::default(), used: 0 }
    }

    /// Take the packet in this place. It must stay there until `flush`.
    pub fn push(&mut self, buffer: &mut [u8], place: Piece, sink: &mut dyn Sink) {
        let packet = &buffer[place.start..place.start + place.len];
        let Some(shape) = shape(packet, self.link) else {
            sink.write(buffer, &VirtioHeader::default(), &[place]);
            return;
        };
        let found = self.slots[..self.used]
            .iter()
            .position(|slot| slot.shape.is_some_and(|head| shape.same_stream(packet, &head, &buffer[slot.head..])));
        let mergeable = shape.mergeable(packet, self.udp);
        if let Some(index) = found {
            if mergeable && self.slots[index].add(buffer, place, &shape) {
                return;
            }
            self.slots[index].flush(buffer, sink);
            if !mergeable {
                // The slot stays without packets, for the stream's next one.
                self.slots[index].shape = None;
                sink.write(buffer, &VirtioHeader::default(), &[place]);
                return;
            }
            self.slots[index].begin(buffer, place, shape);
            return;
        }
        if !mergeable {
            sink.write(buffer, &VirtioHeader::default(), &[place]);
            return;
        }
        let free = self.slots[..self.used].iter().position(|slot| slot.shape.is_none());
        let index = free.unwrap_or_else(|| {
            if self.used == SLOTS {
                self.flush(buffer, sink);
            }
            self.used += 1;
            self.used - 1
        });
        self.slots[index].begin(buffer, place, shape);
    }

    /// Write all that is open.
    pub fn flush(&mut self, buffer: &mut [u8], sink: &mut dyn Sink) {
        for slot in &mut self.slots[..self.used] {
            if slot.shape.is_some() {
                slot.flush(buffer, sink);
                slot.shape = None;
            }
        }
        self.used = 0;
    }
}

impl Slot {
    fn begin(&mut self, buffer: &[u8], place: Piece, shape: Shape) {
        let packet = &buffer[place.start..];
        self.pieces.clear();
        self.pieces.push(Piece { start: place.start, len: shape.end });
        self.head = place.start;
        self.total = shape.end;
        self.size = shape.end - shape.payload;
        self.next_sequence = if shape.tcp { shape.sequence(packet).wrapping_add(self.size as u32) } else { 0 };
        self.closed = shape.tcp && packet[shape.transport + 13] & PSH != 0;
        self.shape = Some(shape);
    }

    /// Add a mergeable packet of the stream, if it goes on where the large one ends.
    fn add(&mut self, buffer: &mut [u8], place: Piece, shape: &Shape) -> bool {
        let Some(head) = self.shape else { return false };
        let packet = &buffer[place.start..];
        let size = shape.end - shape.payload;
        let most = if shape.tcp { MAX_TCP } else { MAX_UDP };
        if self.closed
            || shape.payload != head.payload
            || size > self.size
            || self.total - head.network + size > MAX_TOTAL
            || self.pieces.len() >= most
            || (shape.tcp && shape.sequence(packet) != self.next_sequence)
            || !shape.like(packet, &buffer[self.head..], self.pieces.len())
        {
            return false;
        }
        self.closed = size < self.size;
        if shape.tcp && packet[shape.transport + 13] & PSH != 0 {
            self.closed = true;
            buffer[self.head + head.transport + 13] |= PSH;
        }
        self.pieces.push(Piece { start: place.start + shape.payload, len: size });
        self.total += size;
        self.next_sequence = self.next_sequence.wrapping_add(size as u32);
        true
    }

    fn flush(&mut self, buffer: &mut [u8], sink: &mut dyn Sink) {
        let Some(shape) = self.shape else { return };
        let header = if self.pieces.len() > 1 {
            finish(&mut buffer[self.head..], &shape, self.total, self.size)
        } else {
            VirtioHeader::default()
        };
        sink.write(buffer, &header, &self.pieces);
        self.pieces.clear();
    }
}

/// Make the head's headers those of a large packet of `total` bytes, whose checksum the kernel finishes.
fn finish(head: &mut [u8], shape: &Shape, total: usize, size: usize) -> VirtioHeader {
    let (n, t) = (shape.network, shape.transport);
    let put = |head: &mut [u8], at: usize, value: usize| {
        head[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
    };
    if shape.ipv6 {
        put(head, n + 4, total - n - 40);
    } else {
        put(head, n + 2, total - n);
        head[n + 10..n + 12].fill(0);
        let check = field(sum(&head[n..t]));
        head[n + 10..n + 12].copy_from_slice(&check);
    }
    if !shape.tcp {
        put(head, t + 4, total - t);
    }
    let open = fold(pseudo(&head[shape.addresses()], shape.protocol(), total - t)).to_ne_bytes();
    let offset = if shape.tcp { 16 } else { 6 };
    head[t + offset..t + offset + 2].copy_from_slice(&open);
    VirtioHeader {
        flags: NEEDS_CSUM,
        gso_type: match (shape.tcp, shape.ipv6) {
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        },
        hdr_len: shape.payload as u16,
        gso_size: size as u16,
        csum_start: t as u16,
        csum_offset: offset as u16,
    }
}
