//! Event descriptors, epoll and the monotonic clock.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Something another thread, or another loop, can wait for.
pub struct EventFd(File);

impl EventFd {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the descriptor it returns is nobody else's.
        let owned = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(Self(File::from(owned)))
    }

    /// Make it readable.
    pub fn set(&self) {
        // It fails only where it is readable already.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Make it unreadable.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits for descriptors to be readable.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the descriptor it returns is nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) }))
    }

    /// Wait for this descriptor too; `token` says which it was.
    pub fn add(&self, descriptor: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: the event lives through the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, descriptor, &mut event) })?;
        Ok(())
    }

    /// Wait no longer for this descriptor.
    pub fn remove(&self, descriptor: RawFd) {
        // SAFETY: no event is needed for this operation. It fails only for descriptors that are not waited for.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, descriptor, std::ptr::null_mut()) };
    }

    /// Wait for as long as it takes; the tokens of what is readable.
    pub fn wait(&self, tokens: &mut Vec<u64>) -> io::Result<()> {
        const AT_ONCE: usize = 16;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        tokens.clear();
        // SAFETY: there is room for as many events as are asked for.
        let count =
            match check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), AT_ONCE as i32, -1) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                result => result?,
            };
        tokens.extend(events[..count as usize].iter().map(|event| event.u64));
        Ok(())
    }
}

/// Nanoseconds of CLOCK_MONOTONIC, which is Python's `time.monotonic`.
#[must_use]
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call; this clock exists everywhere.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
