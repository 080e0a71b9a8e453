//! Flows of the legacy protocol: sequence numbers and receiving keys (data-legacy 5, 7).

use super::bits::Bits;
use crate::crypto::legacy::LegacyKey;

/// Past this number the receiver makes new keys (data-legacy 3.4).
const WORN: u64 = 1 << 30;

/// Which sequence numbers are new.
pub struct LegacyWindow {
    last: u64,
    far_limit: u32,
    far_future: u32,
    late: Bits,
}

impl LegacyWindow {
    /// `size` is the option ReplayWindow, in bytes; 0 accepts all.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { last: 0, far_limit: size / 4, far_future: 0, late: Bits::new(8 * u64::from(size)) }
    }

    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether the packet of an authentic number is to be taken; remembers the answer.
    pub fn accept(&mut self, number: u32) -> bool {
        let (number, width) = (u64::from(number), self.late.width());
        if width != 0 {
            if number != self.last + 1 && !self.accept_other(number, width) {
                return false;
            }
            self.late.set(number, false);
            self.far_future = 0;
        }
        self.last = self.last.max(number);
        true
    }

    fn accept_other(&mut self, number: u64, width: u64) -> bool {
        if number >= self.last + width {
            if self.far_future < self.far_limit {
                self.far_future += 1;
                return false;
            }
            self.late.fill(false);
            return true;
        }
        if number <= self.last {
            return self.last - number < width && self.late.get(number);
        }
        (self.last + 1..number).for_each(|missing| self.late.set(missing, true));
        true
    }
}

/// A key to send with.
pub struct LegacySender {
    pub key: LegacyKey,
    last: u32,
}

impl LegacySender {
    #[must_use]
    pub fn new(key: LegacyKey) -> Self {
        Self { key, last: 0 }
    }

    /// The number of the next packet; None when they are used up, as they never start again.
    pub fn next_number(&mut self) -> Option<u32> {
        self.last = self.last.checked_add(1)?;
        Some(self.last)
    }
}

/// A key to open with, until the time `until`.
pub struct LegacyReceiver {
    pub key: LegacyKey,
    pub window: LegacyWindow,
    pub until: u64,
}

impl LegacyReceiver {
    #[must_use]
    pub fn new(key: LegacyKey, replay_window: u32) -> Self {
        Self { key, window: LegacyWindow::new(replay_window), until: u64::MAX }
    }

    /// Whether a new key is due.
    #[must_use]
    pub fn worn(&self) -> bool {
        self.window.last() > WORN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by the letter of the Python reference.
    struct Reference {
        last: i64,
        size: i64,
        far_limit: i64,
        far_future: i64,
        late: Vec<bool>,
    }

    impl Reference {
        fn accept(&mut self, number: i64) -> bool {
            if self.size != 0 {
                if number != self.last + 1 && !self.accept_other(number) {
                    return false;
                }
                self.late[(number % self.size) as usize] = false;
                self.far_future = 0;
            }
            if number > self.last {
                self.last = number;
            }
            true
        }

        fn accept_other(&mut self, number: i64) -> bool {
            let (last, size) = (self.last, self.size);
            if number >= last + size {
                if self.far_future < self.far_limit {
                    self.far_future += 1;
                    return false;
                }
                self.late.fill(false);
                return true;
            }
            if number <= last {
                return (number > last - size || last < size) && self.late[(number % size) as usize];
            }
            for missing in last + 1..number {
                self.late[(missing % size) as usize] = true;
            }
            true
        }
    }

    fn run(size: u32, steps: &[i64]) {
        let width = 8 * i64::from(size);
        let mut window = LegacyWindow::new(size);
        let mut reference = Reference {
            last: 0,
            size: width,
            far_limit: i64::from(size / 4),
            far_future: 0,
            late: vec![false; width as usize],
        };
        for step in steps {
            let number = (reference.last + step).max(0);
            assert_eq!(window.accept(number as u32), reference.accept(number), "{number}");
            assert_eq!(window.last() as i64, reference.last);
        }
    }

    #[test]
    fn the_cases_that_were_measured() {
        run(16, &[0, 1, 1, 0, 127, -126, -126, 128, 128, 128, 128, 128, 1]);
        run(32, &[1, 256, 256, 256, 256, 256, 256, 256, 256, 256, 255, -254]);
    }

    #[test]
    fn numbers_end() {
        let mut sender = LegacySender::new(LegacyKey::new(0, 0, 0, &[1]).unwrap());
        assert_eq!(sender.next_number(), Some(1));
        sender.last = u32::MAX - 1;
        assert_eq!(sender.next_number(), Some(u32::MAX));
        assert_eq!(sender.next_number(), None);
        assert_eq!(sender.next_number(), None);
    }

    proptest! {
        #[test]
        fn like_the_reference(
            size in 0u32..40,
            steps in prop::collection::vec(prop_oneof![-3i64..4, -300i64..300, Just(320)], 0..80),
        ) {
            run(size, &steps);
        }
    }
}
