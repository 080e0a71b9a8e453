//! A ring of bits, one per number: bit `n` of any number lies at `n` modulo the width.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    width: u64,
}

impl Bits {
    /// All bits 0. `width` may be 0: then no method but `width` and `fill` may be called.
    pub fn new(width: u64) -> Self {
        Self { words: vec![0; width.div_ceil(64) as usize], width }
    }

    pub fn width(&self) -> u64 {
        self.width
    }

    fn place(&self, number: u64) -> (usize, u64) {
        let at = number % self.width;
        ((at / 64) as usize, 1 << (at % 64))
    }

    pub fn get(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        self.words[word] & bit != 0
    }

    pub fn set(&mut self, number: u64, value: bool) {
        let (word, bit) = self.place(number);
        if value {
            self.words[word] |= bit;
        } else {
            self.words[word] &= !bit;
        }
    }

    pub fn fill(&mut self, value: bool) {
        self.words.fill(if value { u64::MAX } else { 0 });
    }
}
