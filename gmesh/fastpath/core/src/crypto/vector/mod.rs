//! Several packets per call: the blocks of ChaCha20 in one pass may be of any packets, and Poly1305 has one packet in
//! each lane.
//!
//! This module spreads packets over lanes, whatever their lengths; a `Kernel` does the arithmetic on a whole vector.
//! `unsafe` is here because lanes are pointers: the packets of a call lie anywhere in one buffer, which `check` has
//! compared with its bounds, and no slice type can lend several places of it to one vector instruction.

mod poly;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "x86_64", has_avx512))]
mod avx512;

use subtle::ConstantTimeEq;

use super::{check, Job, RecordCipher, RecordKey, TAG};
use poly::Sum;

const BLOCK: usize = 64;
/// The most lanes that any kernel has.
const WIDEST: usize = 16;
/// Packets worked on together: as many as fit the processor's first cache.
const GROUP: usize = 16;

/// The arithmetic of one instruction set.
trait Kernel: Sync {
    const NAME: &'static str;
    /// ChaCha20 blocks per pass, at most `WIDEST`.
    const BLOCKS: usize;
    /// Packets per Poly1305 vector, at most 8.
    const LANES: usize;

    /// Whether this machine can run it.
    fn available() -> bool;

    /// XOR key streams into `BLOCKS` places of at most 64 bytes each.
    ///
    /// # Safety
    /// The machine can run this kernel; `place[i]` is valid for reads and writes of `len[i]` bytes.
    unsafe fn scattered(key: &[u32; 8], lanes: &Lanes);

    /// The same for `64 * BLOCKS` bytes of one packet, from block `counter` on.
    ///
    /// # Safety
    /// The machine can run this kernel; `place` is valid for reads and writes of that many bytes.
    unsafe fn straight(key: &[u32; 8], nonce: u32, counter: u32, place: *mut u8);

    /// Take the first `blocks` blocks of 16 bytes of `LANES` packets, each with its one-time key.
    ///
    /// # Safety
    /// The machine can run this kernel; each of the first `LANES` places is valid for reads of `16 * blocks` bytes.
    unsafe fn tags(keys: &[[u8; 32]; 8], places: &[*const u8; 8], blocks: usize) -> [Sum; 8];
}

/// Where the blocks of a pass are, and what they are: block `counter` of the record whose number has the bytes `nonce`.
struct Lanes {
    counter: [u32; WIDEST],
    nonce: [u32; WIDEST],
    place: [*mut u8; WIDEST],
    len: [usize; WIDEST],
    used: usize,
}

impl Lanes {
    fn new() -> Self {
        Self {
            counter: [0; WIDEST],
            nonce: [0; WIDEST],
            place: [std::ptr::null_mut(); WIDEST],
            len: [0; WIDEST],
            used: 0,
        }
    }

    /// Add a block; works on all when the vector is full.
    ///
    /// # Safety
    /// As `Kernel::scattered`, for this place, until the lanes are flushed.
    unsafe fn add<K: Kernel>(&mut self, key: &[u32; 8], counter: u32, nonce: u32, place: *mut u8, len: usize) {
        let lane = self.used;
        self.counter[lane] = counter;
        self.nonce[lane] = nonce;
        self.place[lane] = place;
        self.len[lane] = len;
        self.used = lane + 1;
        if self.used == K::BLOCKS {
            K::scattered(key, self);
            self.used = 0;
        }
    }

    /// Work on what is left.
    ///
    /// # Safety
    /// As `Kernel::scattered`, for the places that were added.
    unsafe fn flush<K: Kernel>(&mut self, key: &[u32; 8]) {
        if self.used > 0 {
            self.len[self.used..].fill(0);
            K::scattered(key, self);
            self.used = 0;
        }
    }
}

/// The nonce's second word for a record number: its bytes are big-endian, words are read as little-endian.
fn nonce(number: u32) -> u32 {
    number.swap_bytes()
}

/// XOR the key stream into each packet's data.
///
/// # Safety
/// The machine can run `K`, and `base` is valid for reads and writes of every job's data.
unsafe fn xor_data<K: Kernel>(key: &RecordKey, base: *mut u8, jobs: &[Job], lanes: &mut Lanes, all: bool) {
    for job in jobs {
        if !all && !job.ok {
            continue;
        }
        let nonce = nonce(job.number);
        let place = base.add(job.start);
        let (mut at, mut counter) = (0, 1);
        while job.len - at >= BLOCK * K::BLOCKS {
            K::straight(&key.0, nonce, counter, place.add(at));
            at += BLOCK * K::BLOCKS;
            counter += K::BLOCKS as u32;
        }
        while at < job.len {
            lanes.add::<K>(&key.0, counter, nonce, place.add(at), BLOCK.min(job.len - at));
            at += BLOCK;
            counter += 1;
        }
    }
}

/// Room for the first block of each packet's key stream, whose front is the key of its tag.
type FirstBlocks = [[u8; BLOCK]; GROUP];

/// Add the first blocks of up to `GROUP` packets to the lanes; they are there when the lanes have been flushed.
///
/// # Safety
/// The machine can run `K`; `blocks` is zero, has as many as `jobs`, and is not touched until then.
unsafe fn add_first_blocks<K: Kernel>(key: &RecordKey, jobs: &[Job], blocks: *mut [u8; BLOCK], lanes: &mut Lanes) {
    for (index, job) in jobs.iter().enumerate() {
        lanes.add::<K>(&key.0, 0, nonce(job.number), blocks.add(index).cast(), BLOCK);
    }
}

/// The tags of up to `GROUP` packets, in any order of length.
///
/// # Safety
/// The machine can run `K`, and `base` is valid for reads of every job's data.
unsafe fn all_tags<K: Kernel>(base: *const u8, jobs: &[Job], first: &FirstBlocks) -> [[u8; TAG]; GROUP] {
    let mut tags = [[0; TAG]; GROUP];
    // Packets of like length share a vector.
    let mut order: [u8; GROUP] = std::array::from_fn(|index| index as u8);
    let order = &mut order[..jobs.len()];
    if jobs.windows(2).any(|pair| pair[0].len != pair[1].len) {
        order.sort_unstable_by_key(|&index| jobs[index as usize].len);
    }
    let tag_key = |index: u8| -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(&first[index as usize][..32]);
        key
    };
    let data = |index: u8| -> &[u8] {
        let job = &jobs[index as usize];
        // Within the buffer, as the caller says; nobody writes to it meanwhile.
        std::slice::from_raw_parts(base.add(job.start), job.len)
    };
    for chunk in order.chunks(K::LANES) {
        let shortest = jobs[chunk[0] as usize].len;
        if chunk.len() == 1 || shortest < 16 {
            for &index in chunk {
                tags[index as usize] = poly::finish([0; 3], &tag_key(index), data(index));
            }
            continue;
        }
        let blocks = shortest / 16;
        let mut keys = [[0; 32]; 8];
        let mut places = [std::ptr::null(); 8];
        for lane in 0..K::LANES {
            // Lanes without a packet do one twice.
            let index = chunk[lane.min(chunk.len() - 1)];
            keys[lane] = tag_key(index);
            places[lane] = base.add(jobs[index as usize].start);
        }
        let sums = K::tags(&keys, &places, blocks);
        for (lane, &index) in chunk.iter().enumerate() {
            tags[index as usize] = poly::finish(sums[lane], &keys[lane], &data(index)[blocks * 16..]);
        }
    }
    tags
}

/// A kernel as a cipher.
struct Batch<K>(std::marker::PhantomData<K>);

impl<K: Kernel> Batch<K> {
    const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<K: Kernel> RecordCipher for Batch<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn seal(&self, key: &RecordKey, buffer: &mut [u8], jobs: &mut [Job]) {
        check(buffer, jobs);
        for group in jobs.chunks_mut(GROUP) {
            let base = buffer.as_mut_ptr();
            let mut first: FirstBlocks = [[0; BLOCK]; GROUP];
            let mut lanes = Lanes::new();
            // SAFETY: a cipher is handed out only where its kernel is available; `check` compared every job with the
            // buffer, and `first` lives until the lanes are flushed.
            let tags = unsafe {
                xor_data::<K>(key, base, group, &mut lanes, true);
                add_first_blocks::<K>(key, group, first.as_mut_ptr(), &mut lanes);
                lanes.flush::<K>(&key.0);
                all_tags::<K>(base, group, &first)
            };
            for (job, tag) in group.iter_mut().zip(&tags) {
                let end = job.start + job.len;
                buffer[end..end + TAG].copy_from_slice(tag);
            }
        }
    }

    fn open(&self, key: &RecordKey, buffer: &mut [u8], jobs: &mut [Job]) {
        check(buffer, jobs);
        for group in jobs.chunks_mut(GROUP) {
            let base = buffer.as_mut_ptr();
            let mut first: FirstBlocks = [[0; BLOCK]; GROUP];
            let mut lanes = Lanes::new();
            // SAFETY: as in `seal`.
            let tags = unsafe {
                add_first_blocks::<K>(key, group, first.as_mut_ptr(), &mut lanes);
                lanes.flush::<K>(&key.0);
                all_tags::<K>(base, group, &first)
            };
            for (job, tag) in group.iter_mut().zip(&tags) {
                let end = job.start + job.len;
                job.ok = tag.ct_eq(&buffer[end..end + TAG]).into();
            }
            // SAFETY: as in `seal`.
            unsafe {
                xor_data::<K>(key, buffer.as_mut_ptr(), group, &mut lanes, false);
                lanes.flush::<K>(&key.0);
            }
        }
    }

    fn apply(&self, key: &RecordKey, buffer: &mut [u8], jobs: &[Job]) {
        check(buffer, jobs);
        let mut lanes = Lanes::new();
        // SAFETY: as in `seal`.
        unsafe {
            xor_data::<K>(key, buffer.as_mut_ptr(), jobs, &mut lanes, true);
            lanes.flush::<K>(&key.0);
        }
    }
}

/// Add the ciphers that this machine can run, the fastest last.
pub(super) fn available(ciphers: &mut Vec<&'static dyn RecordCipher>) {
    #[cfg(target_arch = "x86_64")]
    add::<avx2::Avx2>(ciphers);
    #[cfg(all(target_arch = "x86_64", has_avx512))]
    add::<avx512::Avx512>(ciphers);
    let _ = ciphers;
}

#[cfg(target_arch = "x86_64")]
fn add<K: Kernel + 'static>(ciphers: &mut Vec<&'static dyn RecordCipher>) {
    if K::available() {
        ciphers.push(const { &Batch::<K>::new() });
    }
}

#[cfg(test)]
mod tests;
