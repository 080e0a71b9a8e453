//! An SPTPS session whose first handshake is done: keys of both directions, numbers, replay window (sptps 5).

use super::window::{Window, WindowState};
use crate::crypto::{Job, RecordCipher, RecordKey};

/// Types below this belong to the user of the session; this one is for handshakes.
pub const HANDSHAKE: u8 = 128;
/// Bytes of a record's number.
pub const NUMBER: usize = 4;
/// Nanoseconds for which the receiving key before the present one still opens late datagrams.
const OLD_KEY_TIME: u64 = 5_000_000_000;
/// Past this number a new session is due.
const WORN: u64 = 1 << 31;

/// All that an engine needs to go on with a session. `previous_for` is how many nanoseconds `previous` still opens.
pub struct SessionState {
    pub send: [u8; 32],
    pub next_number: u64,
    pub receive: [u8; 32],
    pub staged: Option<[u8; 32]>,
    pub previous: Option<[u8; 32]>,
    pub previous_for: u64,
    pub window: WindowState,
}

/// What a renewal asks for.
pub enum Step {
    /// Seal a handshake record with this payload.
    Send(Vec<u8>),
    UseSendKey([u8; 32]),
    StageReceiveKey([u8; 32]),
    ConfirmReceiveKey,
}

pub struct Session {
    send: RecordKey,
    next_number: u64,
    receive: RecordKey,
    staged: Option<RecordKey>,
    previous: Option<RecordKey>,
    previous_until: u64,
    pub window: Window,
}

impl Session {
    #[must_use]
    pub fn new(state: &SessionState, now: u64) -> Self {
        Self {
            send: RecordKey::new(&state.send),
            next_number: state.next_number,
            receive: RecordKey::new(&state.receive),
            staged: state.staged.as_ref().map(RecordKey::new),
            previous: state.previous.as_ref().map(RecordKey::new),
            previous_until: now.saturating_add(state.previous_for),
            window: Window::new(&state.window),
        }
    }

    #[must_use]
    pub fn state(&self, now: u64) -> SessionState {
        SessionState {
            send: self.send.bytes(),
            next_number: self.next_number,
            receive: self.receive.bytes(),
            staged: self.staged.as_ref().map(RecordKey::bytes),
            previous: self.previous.as_ref().map(RecordKey::bytes),
            previous_for: self.previous_until.saturating_sub(now),
            window: self.window.state(),
        }
    }

    #[must_use]
    pub fn send_key(&self) -> &RecordKey {
        &self.send
    }

    /// The number of the next record; None when they are used up, as they never start again.
    pub fn take_number(&mut self) -> Option<u32> {
        let number = u32::try_from(self.next_number).ok()?;
        self.next_number += 1;
        Some(number)
    }

    /// Whether either direction has used so many numbers that a new session is due.
    #[must_use]
    pub fn worn(&self) -> bool {
        self.next_number > WORN || self.window.expected() > WORN
    }

    /// Do what a renewal asks for; sealing is the caller's.
    pub fn step(&mut self, step: &Step, now: u64) {
        match step {
            Step::Send(_) => {}
            Step::UseSendKey(key) => self.send = RecordKey::new(key),
            Step::StageReceiveKey(key) => self.staged = Some(RecordKey::new(key)),
            Step::ConfirmReceiveKey => {
                // Without a staged key there is nothing to confirm.
                if let Some(staged) = self.staged.take() {
                    self.previous = Some(std::mem::replace(&mut self.receive, staged));
                    self.previous_until = now.saturating_add(OLD_KEY_TIME);
                }
            }
        }
    }

    /// Decrypt what is authentic under any key that is now in force. `spare` is room that is used again.
    pub fn open(
        &mut self,
        cipher: &dyn RecordCipher,
        buffer: &mut [u8],
        jobs: &mut [Job],
        spare: &mut Vec<Job>,
        now: u64,
    ) {
        cipher.open(&self.receive, buffer, jobs);
        if jobs.iter().all(|job| job.ok) {
            return;
        }
        if now >= self.previous_until {
            self.previous = None;
        }
        for key in [&self.staged, &self.previous].into_iter().flatten() {
            spare.clear();
            spare.extend(jobs.iter().filter(|job| !job.ok));
            if spare.is_empty() {
                return;
            }
            cipher.open(key, buffer, spare);
            let mut answers = spare.iter();
            for job in jobs.iter_mut().filter(|job| !job.ok) {
                job.ok = answers.next().is_some_and(|answer| answer.ok);
            }
        }
    }

    /// Whether the record of an authentic number is new; then it counts as taken.
    pub fn take(&mut self, number: u32) -> bool {
        let new = self.window.acceptable(number);
        if new {
            self.window.accept(number);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{fastest, TAG};

    fn state() -> SessionState {
        SessionState {
            send: [1; 32],
            next_number: 2,
            receive: [2; 32],
            staged: None,
            previous: None,
            previous_for: 0,
            window: WindowState { size: 16, expected: 2, late: vec![0; 16], far_future: 0 },
        }
    }

    fn sealed(keys: &[u8]) -> (Vec<u8>, Vec<Job>) {
        let mut buffer = vec![7; keys.len() * 64];
        let mut jobs = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let mut job = [Job::new(i as u32, i * 64, 64 - TAG)];
            fastest().seal(&RecordKey::new(&[*key; 32]), &mut buffer, &mut job);
            jobs.extend(job);
        }
        (buffer, jobs)
    }

    fn opened(session: &mut Session, now: u64, keys: &[u8]) -> Vec<bool> {
        let (mut buffer, mut jobs) = sealed(keys);
        session.open(fastest(), &mut buffer, &mut jobs, &mut Vec::new(), now);
        for job in &jobs {
            assert_eq!(buffer[job.start..job.start + job.len] == [7; 64 - TAG], job.ok);
        }
        jobs.iter().map(|job| job.ok).collect()
    }

    #[test]
    fn a_renewal_takes_old_and_new_keys() {
        let mut session = Session::new(&state(), 0);
        assert_eq!(opened(&mut session, 0, &[2, 3, 2, 4]), [true, false, true, false]);
        session.step(&Step::StageReceiveKey([3; 32]), 0);
        assert_eq!(opened(&mut session, 0, &[2, 3, 2, 4]), [true, true, true, false]);
        session.step(&Step::ConfirmReceiveKey, 10);
        assert_eq!(opened(&mut session, 11, &[2, 3, 2, 4]), [true, true, true, false]);
        let exported = session.state(OLD_KEY_TIME);
        assert_eq!((exported.receive, exported.previous, exported.previous_for), ([3; 32], Some([2; 32]), 10));
        let mut session = Session::new(&exported, 1000);
        assert_eq!(opened(&mut session, 1009, &[2, 3]), [true, true]);
        assert_eq!(opened(&mut session, 1010, &[2, 3]), [false, true]);
        session.step(&Step::ConfirmReceiveKey, 1011);
        assert_eq!(opened(&mut session, 1012, &[3]), [true]);
    }

    #[test]
    fn numbers_end() {
        let mut session = Session::new(&SessionState { next_number: u64::from(u32::MAX), ..state() }, 0);
        assert!(session.worn());
        assert_eq!(session.take_number(), Some(u32::MAX));
        assert_eq!(session.take_number(), None);
        assert_eq!(session.state(0).next_number, 1 << 32);
    }

    #[test]
    fn numbers_are_taken_once() {
        let mut session = Session::new(&state(), 0);
        assert!(session.take(2) && session.take(5) && session.take(3));
        assert!(!session.take(3) && !session.take(5) && !session.take(1));
    }
}
