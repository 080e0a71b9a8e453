//! Sealing and opening of packets, many at once.
//!
//! SPTPS records: ChaCha20 with a nonce of 64 bits, the record number in big-endian order; the Poly1305 key is the
//! front of block 0, the data begin at block 1, and the tag covers the ciphertext alone, without padding or lengths.
//! Not here: who a key belongs to, and which numbers are new.

pub mod legacy;
mod portable;
#[allow(unsafe_code)]
pub mod vector;

use zeroize::Zeroize;

/// Bytes of a tag.
pub const TAG: usize = 16;

/// The key of one direction of a session.
pub struct RecordKey(pub(crate) [u32; 8]);

impl RecordKey {
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self(words)
    }

    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

impl Drop for RecordKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// One packet in a buffer: `len` bytes from `start`, with room for its tag behind them.
///
/// `ok` is an answer of `open`: whether the tag was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub number: u32,
    pub start: usize,
    pub len: usize,
    pub ok: bool,
}

impl Job {
    #[must_use]
    pub fn new(number: u32, start: usize, len: usize) -> Self {
        Self { number, start, len, ok: false }
    }

    /// Where data and tag end.
    fn end(&self) -> Option<usize> {
        self.start.checked_add(self.len)?.checked_add(TAG)
    }
}

/// A way to seal and open records, all under one key per call. Packets of one call must not overlap.
pub trait RecordCipher: Sync {
    fn name(&self) -> &'static str;

    /// Encrypt each packet where it lies and put its tag behind it.
    fn seal(&self, key: &RecordKey, buffer: &mut [u8], jobs: &mut [Job]);

    /// Set `ok` for each packet, and decrypt those that are authentic. The others stay as they were.
    fn open(&self, key: &RecordKey, buffer: &mut [u8], jobs: &mut [Job]);

    /// Encrypt or decrypt without looking at tags: makes plain again what was sealed here.
    fn apply(&self, key: &RecordKey, buffer: &mut [u8], jobs: &[Job]);
}

/// Every cipher that this machine can run, the fastest last; each does the same, bit for bit.
#[must_use]
pub fn record_ciphers() -> Vec<&'static dyn RecordCipher> {
    let mut ciphers: Vec<&'static dyn RecordCipher> = vec![&portable::Portable];
    vector::available(&mut ciphers);
    ciphers
}

/// The fastest cipher of this machine.
#[must_use]
pub fn fastest() -> &'static dyn RecordCipher {
    record_ciphers().pop().unwrap_or(&portable::Portable)
}

/// Panics unless all jobs lie within the buffer: the vector back ends rely on it.
pub(crate) fn check(buffer: &[u8], jobs: &[Job]) {
    for job in jobs {
        assert!(job.end().is_some_and(|end| end <= buffer.len()), "a packet reaches beyond its buffer");
    }
}
