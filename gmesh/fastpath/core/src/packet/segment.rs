//! From a packet as the kernel hands it over, to packets as they go on a wire: large ones are cut (TSO, USO), and
//! checksums that were left open are finished.

use super::checksum::{field, pseudo, sum, udp_field};
use super::headers::{word, Link, TCP, UDP};
use super::virtio::{VirtioHeader, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM};

/// Bytes of headers that a segment may have: Ethernet with a tag, IPv4 and TCP as long as they can be, or IPv6 with
/// some extensions.
const MAX_HEADERS: usize = 256;
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// A packet that does not fit what the kernel says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A large packet, to be cut.
pub struct Segments<'a> {
    headers: [u8; MAX_HEADERS],
    header_len: usize,
    /// Where the IP header begins, and where the TCP or UDP header does.
    network: usize,
    transport: usize,
    ipv6: bool,
    tcp: bool,
    size: usize,
    payload: &'a [u8],
    pseudo: u64,
    sequence: u32,
    identification: u16,
    flags: u8,
}

/// What a packet of the kernel is.
pub enum Outgoing<'a> {
    /// One packet, its checksum finished where it lies.
    One(&'a mut [u8]),
    Many(Box<Segments<'a>>),
}

/// Read a packet of the device. A large one has at least two segments' worth of payload, or one.
pub fn outgoing<'a>(header: &VirtioHeader, packet: &'a mut [u8], link: Link) -> Result<Outgoing<'a>, Malformed> {
    match header.gso_type & !GSO_ECN {
        GSO_NONE => {
            if header.flags & NEEDS_CSUM != 0 {
                finish(header, packet)?;
            }
            Ok(Outgoing::One(packet))
        }
        GSO_TCPV4 => Segments::new(header, packet, link, false, true).map(|many| Outgoing::Many(Box::new(many))),
        GSO_TCPV6 => Segments::new(header, packet, link, true, true).map(|many| Outgoing::Many(Box::new(many))),
        GSO_UDP_L4 => {
            let ipv6 = packet.get(network_start(packet, link)).ok_or(Malformed)? >> 4 == 6;
            Segments::new(header, packet, link, ipv6, false).map(|many| Outgoing::Many(Box::new(many)))
        }
        _ => Err(Malformed),
    }
}

/// Where the IP header begins.
fn network_start(packet: &[u8], link: Link) -> usize {
    match link {
        Link::Tun => 0,
        Link::Tap => super::headers::payload(packet).map_or(usize::MAX, |(_, start)| start),
    }
}

/// Finish a checksum whose field holds the pseudo header's part.
fn finish(header: &VirtioHeader, packet: &mut [u8]) -> Result<(), Malformed> {
    let start = usize::from(header.csum_start);
    let at = start + usize::from(header.csum_offset);
    if at + 2 > packet.len() {
        return Err(Malformed);
    }
    let total = sum(&packet[start..]);
    // Only UDP has its field there, and only UDP has a zero that means none.
    let value = if header.csum_offset == 6 { udp_field(total) } else { field(total) };
    packet[at..at + 2].copy_from_slice(&value);
    Ok(())
}

impl<'a> Segments<'a> {
    fn new(header: &VirtioHeader, packet: &'a mut [u8], link: Link, ipv6: bool, tcp: bool) -> Result<Self, Malformed> {
        let network = network_start(packet, link);
        let transport = usize::from(header.csum_start);
        let size = usize::from(header.gso_size);
        let least = if ipv6 { 40 } else { 20 };
        // The kernel's hdr_len may be the length of what is linear in its memory, so headers are measured anew.
        if size == 0
            || header.flags & NEEDS_CSUM == 0
            || transport < network.saturating_add(least)
            || packet.len() < transport + if tcp { 20 } else { 8 }
            || packet[network] >> 4 != if ipv6 { 6 } else { 4 }
        {
            return Err(Malformed);
        }
        if !ipv6 && network + usize::from(packet[network] & 0x0f) * 4 != transport {
            return Err(Malformed);
        }
        let header_len = transport + if tcp { usize::from(packet[transport + 12] >> 4) * 4 } else { 8 };
        if header_len > MAX_HEADERS
            || header_len >= packet.len()
            || (tcp && header_len < transport + 20)
            || packet.len() - network > 0xffff + 40
        {
            return Err(Malformed);
        }
        let (head, payload) = packet.split_at(header_len);
        let mut headers = [0; MAX_HEADERS];
        headers[..header_len].copy_from_slice(head);
        let addresses = if ipv6 { network + 8..network + 40 } else { network + 12..network + 20 };
        let pseudo = pseudo(&headers[addresses], if tcp { TCP } else { UDP }, 0);
        let (mut sequence, mut flags, mut identification) = (0, 0, 0);
        if tcp {
            let at = transport + 4;
            sequence = u32::from_be_bytes([headers[at], headers[at + 1], headers[at + 2], headers[at + 3]]);
            flags = headers[transport + 13];
            headers[transport + 16..transport + 18].fill(0);
        } else {
            headers[transport + 6..transport + 8].fill(0);
        }
        if !ipv6 {
            identification = word(&headers, network + 4);
            headers[network + 10..network + 12].fill(0);
        }
        Ok(Self {
            headers,
            header_len,
            network,
            transport,
            ipv6,
            tcp,
            size,
            payload,
            pseudo,
            sequence,
            identification,
            flags,
        })
    }

    /// How many segments there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size)
    }

    /// The length of a segment, headers and all. The first is the longest.
    #[must_use]
    pub fn len(&self, index: usize) -> usize {
        self.header_len + self.part(index).len()
    }

    /// Whether there is nothing to send; never, as there is always some payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The headers that all segments have in common but for lengths, numbers and checksums.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        &self.headers[..self.header_len]
    }

    fn part(&self, index: usize) -> &'a [u8] {
        let start = index * self.size;
        &self.payload[start..self.payload.len().min(start + self.size)]
    }

    /// Write a segment, `len(index)` bytes.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        let part = self.part(index);
        let (network, transport, header_len) = (self.network, self.transport, self.header_len);
        out[..header_len].copy_from_slice(&self.headers[..header_len]);
        let body = &mut out[header_len..header_len + part.len()];
        body.copy_from_slice(part);
        let payload_sum = sum(body);
        let put = |out: &mut [u8], at: usize, value: u16| out[at..at + 2].copy_from_slice(&value.to_be_bytes());
        if self.ipv6 {
            put(out, network + 4, (header_len - network - 40 + part.len()) as u16);
        } else {
            put(out, network + 2, (header_len - network + part.len()) as u16);
            put(out, network + 4, self.identification.wrapping_add(index as u16));
            let check = field(sum(&out[network..transport]));
            out[network + 10..network + 12].copy_from_slice(&check);
        }
        if self.tcp {
            let sequence = self.sequence.wrapping_add((index * self.size) as u32);
            out[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
            let mut flags = self.flags;
            if index + 1 < self.count() {
                flags &= !FIN_PSH;
            }
            if index > 0 {
                flags &= !CWR;
            }
            out[transport + 13] = flags;
        } else {
            put(out, transport + 4, (8 + part.len()) as u16);
        }
        let length = ((header_len - transport + part.len()) as u32).to_be();
        // The headers are of even length, so the payload's sum needs no turning.
        let total = self.pseudo + u64::from(length) + sum(&out[transport..header_len]) + payload_sum;
        if self.tcp {
            out[transport + 16..transport + 18].copy_from_slice(&field(total));
        } else {
            out[transport + 6..transport + 8].copy_from_slice(&udp_field(total));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
