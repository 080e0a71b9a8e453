//! Counters of the whole engine, read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! totals {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)+) => {
        #[derive(Debug, Default)]
        pub struct Totals {
            $($(#[$doc])* pub $field: AtomicU64,)+
        }

        impl Totals {
            /// All counters by the names that the slow path gives them.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed)),)+]
            }
        }
    };
}

totals! {
    device_packets_in: "device packets in",
    device_bytes_in: "device bytes in",
    device_packets_out: "device packets out",
    device_bytes_out: "device bytes out",
    device_discarded: "drop device read",
    device_failed: "drop device write",
    udp_packets_in: "UDP packets in",
    udp_bytes_in: "UDP bytes in",
    udp_packets_out: "UDP packets out",
    udp_bytes_out: "UDP bytes out",
    relayed: "relayed",
    relayed_stranger: "drop relayed from stranger",
    relayed_probe: "drop relayed probe",
    relayed_loop: "drop loop",
    handshake: "drop handshake",
    probes_in: "probes in",
    probes_out: "probes out",
    no_mac: "drop not authentic",
    replayed: "drop replayed or far out of order",
    damaged: "drop damaged",
    frame_length: "drop frame length",
    bad_record: "drop record type",
    short: "drop too short",
    queue_full: "drop UDP queue full",
    too_big: "UDP too big",
    send_errors: "drop UDP error",
    receive_errors: "UDP receive errors",
    errors_heard: "UDP errors heard",
    no_key: "drop probe without key",
    no_address: "drop probe without address",
    device_reads: "engine device reads",
    device_writes: "engine device writes",
    receive_calls: "engine receive calls",
    send_calls: "engine send calls",
    trains_refused: "engine trains refused",
}
