//! What has to be remembered of a flow: keys, numbers, and which numbers came already.
//!
//! Not here: the ciphers, and whose flow it is.

mod bits;
pub mod legacy;
pub mod session;
pub mod window;
