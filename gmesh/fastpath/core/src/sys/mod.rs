//! The system's calls: the only place, beside the vector units, where `unsafe` is needed. Every block has its reason.

pub mod event;
pub mod system;
pub mod tun;
mod udp;

use std::io;

/// The result of a call that returns -1 with an error number.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls that return lengths.
fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
