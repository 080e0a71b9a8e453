//! Which record numbers of a session are new (sptps 5.3).

use super::bits::Bits;

/// A window as Python knows it: bit `i` of `late`, least significant first, says that the number `expected - 1 - i`
/// has not come yet. `size` is in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowState {
    pub size: u32,
    pub expected: u64,
    pub late: Vec<u8>,
    pub far_future: u32,
}

/// `acceptable` asks, `accept` remembers; only authentic numbers may be asked for.
pub struct Window {
    size: u32,
    expected: u64,
    far_future: u32,
    late: Bits,
}

impl Window {
    #[must_use]
    pub fn new(state: &WindowState) -> Self {
        let mut late = Bits::new(8 * u64::from(state.size));
        for i in 0..late.width().min(state.expected) {
            let byte = state.late.get((i / 8) as usize).copied().unwrap_or(0);
            if byte >> (i % 8) & 1 == 1 {
                late.set(state.expected - 1 - i, true);
            }
        }
        Self { size: state.size, expected: state.expected, far_future: state.far_future, late }
    }

    #[must_use]
    pub fn state(&self) -> WindowState {
        let mut late = vec![0; self.size as usize];
        for i in 0..self.late.width().min(self.expected) {
            if self.late.get(self.expected - 1 - i) {
                late[(i / 8) as usize] |= 1 << (i % 8);
            }
        }
        WindowState { size: self.size, expected: self.expected, late, far_future: self.far_future }
    }

    /// The number after the highest one that came.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Whether the record of this number is to be taken. Numbers far ahead are counted, and refused at first: a few
    /// may be accidents, a row of them means that the sender's count was lost.
    pub fn acceptable(&mut self, number: u32) -> bool {
        let (number, width) = (u64::from(number), self.late.width());
        if width == 0 || number == self.expected {
            return true;
        }
        if number < self.expected {
            return self.expected - number <= width && self.late.get(number);
        }
        if number - self.expected < width || self.far_future >= self.size / 4 {
            return true;
        }
        self.far_future += 1;
        false
    }

    /// The record of an acceptable number was taken.
    pub fn accept(&mut self, number: u32) {
        let (number, width) = (u64::from(number), self.late.width());
        self.far_future = 0;
        if number >= self.expected {
            if width != 0 {
                if number - self.expected >= width {
                    // Numbers before the first are late as well: they may come, as after any other jump.
                    self.late.fill(true);
                } else {
                    (self.expected..number).for_each(|missing| self.late.set(missing, true));
                }
            }
            self.expected = number + 1;
        }
        if width != 0 {
            self.late.set(number, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by the letter of the Python reference, with one number for all bits.
    struct Reference {
        size: i64,
        expected: i64,
        late: Vec<bool>,
        far_future: i64,
    }

    impl Reference {
        fn acceptable(&mut self, number: i64) -> bool {
            let (ahead, width) = (number - self.expected, 8 * self.size);
            if ahead == 0 || width == 0 {
                return true;
            }
            if ahead < 0 {
                return ahead >= -width && self.late[(-1 - ahead) as usize];
            }
            if ahead < width || self.far_future >= self.size / 4 {
                return true;
            }
            self.far_future += 1;
            false
        }

        fn accept(&mut self, number: i64) {
            let (ahead, width) = (number - self.expected, 8 * self.size);
            self.far_future = 0;
            if ahead < 0 {
                if let Some(bit) = self.late.get_mut((-1 - ahead) as usize) {
                    *bit = false;
                }
                return;
            }
            self.expected = number + 1;
            let mut late = vec![false];
            late.extend(std::iter::repeat_n(true, ahead.min(width) as usize));
            late.extend(&self.late);
            late.truncate(width as usize);
            self.late = late;
        }
    }

    fn run(size: u32, start: u64, steps: &[i64]) {
        let first = WindowState { size, expected: start, late: vec![0; size as usize], far_future: 0 };
        let mut window = Window::new(&first);
        let mut reference = Reference {
            size: size.into(),
            expected: start as i64,
            late: vec![false; 8 * size as usize],
            far_future: 0,
        };
        for step in steps {
            let number = (reference.expected + step).clamp(0, u32::MAX.into());
            let expected = reference.acceptable(number);
            assert_eq!(window.acceptable(number as u32), expected, "{number}");
            if expected {
                reference.accept(number);
                window.accept(number as u32);
            }
            let state = window.state();
            assert_eq!(state.expected as i64, reference.expected);
            assert_eq!(i64::from(state.far_future), reference.far_future);
            // Bits of numbers below zero are nobody's.
            for i in 0..(8 * size as usize).min(state.expected as usize) {
                assert_eq!(state.late[i / 8] >> (i % 8) & 1 == 1, reference.late[i], "bit {i}");
            }
            window = Window::new(&state);
        }
    }

    #[test]
    fn the_cases_that_were_measured() {
        // Far future: four are dropped, the fifth is taken (sptps 5.3, window of 128).
        run(16, 2, &[127, 128, 128, 128, 128, 128, 128, -1, -128, -129]);
    }

    proptest! {
        #[test]
        fn like_the_reference(
            size in 0u32..20,
            start in prop::sample::select(vec![0u64, 2, 1000, 4294967290]),
            steps in prop::collection::vec(prop_oneof![-3i64..4, -200i64..200, Just(160)], 0..80),
        ) {
            run(size, start, &steps);
        }
    }
}
