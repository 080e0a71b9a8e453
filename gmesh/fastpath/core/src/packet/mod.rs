//! What the engine knows of packets: where headers lie, checksums, cutting large ones up and putting small ones
//! together. Pure functions of bytes.
//!
//! Not here: where a packet goes.

pub mod checksum;
pub mod coalesce;
pub mod headers;
pub mod mss;
pub mod segment;
pub mod virtio;
