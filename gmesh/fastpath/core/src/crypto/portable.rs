//! The reference: one packet at a time, from well-kept crates.

use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use chacha20::ChaCha20Legacy;
use poly1305::universal_hash::KeyInit;
use poly1305::Poly1305;
use subtle::ConstantTimeEq;

use super::{check, Job, RecordCipher, RecordKey, TAG};

const BLOCK: u64 = 64;

pub(super) struct Portable;

fn stream(key: &RecordKey, number: u32) -> ChaCha20Legacy {
    ChaCha20Legacy::new(&key.bytes().into(), &u64::from(number).to_be_bytes().into())
}

/// The key of a packet's tag, and the stream at the packet's first byte.
fn begin(key: &RecordKey, number: u32) -> (Poly1305, ChaCha20Legacy) {
    let mut stream = stream(key, number);
    let mut tag_key = [0; 32];
    stream.apply_keystream(&mut tag_key);
    stream.seek(BLOCK);
    (Poly1305::new(&tag_key.into()), stream)
}

impl RecordCipher for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn seal(&self, key: &RecordKey, buffer: &mut [u8], jobs: &mut [Job]) {
        check(buffer, jobs);
        for job in jobs {
            let (data, rest) = buffer[job.start..].split_at_mut(job.len);
            let (tag, mut stream) = begin(key, job.number);
            stream.apply_keystream(data);
            rest[..TAG].copy_from_slice(&tag.compute_unpadded(data));
        }
    }

    fn open(&self, key: &RecordKey, buffer: &mut [u8], jobs: &mut [Job]) {
        check(buffer, jobs);
        for job in jobs {
            let (data, rest) = buffer[job.start..].split_at_mut(job.len);
            let (tag, mut stream) = begin(key, job.number);
            job.ok = tag.compute_unpadded(data).as_slice().ct_eq(&rest[..TAG]).into();
            if job.ok {
                stream.apply_keystream(data);
            }
        }
    }

    fn apply(&self, key: &RecordKey, buffer: &mut [u8], jobs: &[Job]) {
        check(buffer, jobs);
        for job in jobs {
            let mut stream = stream(key, job.number);
            stream.seek(BLOCK);
            stream.apply_keystream(&mut buffer[job.start..job.start + job.len]);
        }
    }
}
