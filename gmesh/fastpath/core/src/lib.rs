//! The packet engine of gmesh: what happens to packets between a tun device and UDP sockets.
//!
//! The wire forms are tinc's. Not here: handshakes, gossip, policy, which are Python's; and Python itself.

#![deny(unsafe_code)]

pub mod crypto;
pub mod engine;
pub mod flow;
pub mod io;
pub mod packet;
pub mod pump;
#[allow(unsafe_code)]
pub mod sys;
