//! Every kernel against the reference; and one in plain arithmetic, by which the spreading over lanes is tested on any
//! machine.

use poly1305::universal_hash::KeyInit;
use poly1305::Poly1305;
use proptest::prelude::*;

use super::*;
use crate::crypto::record_ciphers;

/// As many lanes as AVX-512 has.
struct Plain;

fn block(key: &[u32; 8], counter: u32, nonce: u32) -> [u8; BLOCK] {
    let mut first = [0u32; 16];
    first[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    first[4..12].copy_from_slice(key);
    first[12] = counter;
    first[15] = nonce;
    let mut x = first;
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        for (i, j, k, left) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
            x[i] = x[i].wrapping_add(x[j]);
            x[k] = (x[k] ^ x[i]).rotate_left(left);
        }
    };
    for _ in 0..10 {
        for i in 0..4 {
            quarter(i, 4 + i, 8 + i, 12 + i);
        }
        for i in 0..4 {
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
        }
    }
    let mut bytes = [0; BLOCK];
    for (chunk, (word, first)) in bytes.chunks_exact_mut(4).zip(x.iter().zip(first)) {
        chunk.copy_from_slice(&word.wrapping_add(first).to_le_bytes());
    }
    bytes
}

impl Kernel for Plain {
    const NAME: &'static str = "plain";
    const BLOCKS: usize = 16;
    const LANES: usize = 8;

    fn available() -> bool {
        true
    }

    unsafe fn scattered(key: &[u32; 8], lanes: &Lanes) {
        for lane in 0..lanes.used {
            let stream = block(key, lanes.counter[lane], lanes.nonce[lane]);
            for (i, byte) in stream[..lanes.len[lane]].iter().enumerate() {
                *lanes.place[lane].add(i) ^= byte;
            }
        }
    }

    unsafe fn straight(key: &[u32; 8], nonce: u32, counter: u32, place: *mut u8) {
        for i in 0..Self::BLOCKS {
            for (j, byte) in block(key, counter + i as u32, nonce).iter().enumerate() {
                *place.add(BLOCK * i + j) ^= byte;
            }
        }
    }

    unsafe fn tags(keys: &[[u8; 32]; 8], places: &[*const u8; 8], blocks: usize) -> [Sum; 8] {
        std::array::from_fn(|lane| poly::blocks(&keys[lane], std::slice::from_raw_parts(places[lane], 16 * blocks)))
    }
}

/// Under Miri this shows which kernels it was told to imitate.
fn ciphers() -> Vec<&'static dyn RecordCipher> {
    let mut all = record_ciphers();
    all.push(const { &Batch::<Plain>::new() });
    all
}

/// A buffer with packets of these lengths, some bytes apart.
fn packets(lens: &[usize], numbers: &[u32], fill: u8) -> (Vec<u8>, Vec<Job>) {
    let mut jobs = Vec::new();
    let mut at = 3;
    for (&len, &number) in lens.iter().zip(numbers.iter().cycle()) {
        jobs.push(Job::new(number, at, len));
        at += len + TAG + 16;
    }
    let buffer = (0..at).map(|i| (i as u8).wrapping_mul(31).wrapping_add(fill)).collect();
    (buffer, jobs)
}

fn same_everywhere(key: [u8; 32], lens: &[usize], numbers: &[u32], fill: u8, damage: usize) {
    let key = RecordKey::new(&key);
    let (plain, jobs) = packets(lens, numbers, fill);
    let all = ciphers();
    let mut sealed = plain.clone();
    all[0].seal(&key, &mut sealed, &mut jobs.clone());
    let mut broken = sealed.clone();
    let victim = (!jobs.is_empty()).then(|| damage % jobs.len());
    if let Some(victim) = victim {
        let job = jobs[victim];
        broken[job.start + damage % (job.len + TAG)] ^= 1 << (damage % 8);
    }
    let mut answers = jobs.clone();
    let mut opened = broken.clone();
    all[0].open(&key, &mut opened, &mut answers);
    for (index, job) in answers.iter().enumerate() {
        assert_eq!(job.ok, Some(index) != victim);
    }
    for cipher in &all[1..] {
        let mut other = plain.clone();
        cipher.seal(&key, &mut other, &mut jobs.clone());
        assert!(other == sealed, "{} seals otherwise", cipher.name());
        let mut other_answers = jobs.clone();
        let mut other = broken.clone();
        cipher.open(&key, &mut other, &mut other_answers);
        assert_eq!(other_answers, answers, "{}", cipher.name());
        assert!(other == opened, "{} opens otherwise", cipher.name());
        let mut again = plain.clone();
        cipher.seal(&key, &mut again, &mut jobs.clone());
        cipher.apply(&key, &mut again, &jobs);
        for job in &jobs {
            assert_eq!(again[job.start..job.start + job.len], plain[job.start..job.start + job.len]);
        }
    }
}

#[test]
fn every_length_up_to_some_passes() {
    let step = if cfg!(miri) { 37 } else { 1 };
    for len in (0..1100).step_by(step) {
        same_everywhere([7; 32], &[len; 9], &[1, 2, u32::MAX], len as u8, len);
    }
}

#[test]
fn trains_of_every_size() {
    for count in if cfg!(miri) { vec![1, 2, 5, 17] } else { (0..40).collect() } {
        let numbers: Vec<u32> = (1000..1000 + count as u32).collect();
        same_everywhere([9; 32], &vec![1401; count], &numbers, 5, 77 * count);
    }
}

#[test]
fn extreme_poly1305_sums() {
    // All ones make the largest limbs there are, in keys as in data.
    for fill in [0u8, 0xff] {
        let data = vec![fill; 16 * if cfg!(miri) { 9 } else { 40 }];
        for key in [[0xff; 32], [0; 32], [0xfc; 32]] {
            let expected: [u8; 16] = Poly1305::new(&key.into()).compute_unpadded(&data).into();
            assert_eq!(poly::finish([0; 3], &key, &data), expected);
            #[cfg(target_arch = "x86_64")]
            if avx2::Avx2::available() {
                check_tags::<avx2::Avx2>(key, &data, expected);
            }
            #[cfg(all(target_arch = "x86_64", has_avx512))]
            if avx512::Avx512::available() {
                check_tags::<avx512::Avx512>(key, &data, expected);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn check_tags<K: Kernel>(key: [u8; 32], data: &[u8], expected: [u8; 16]) {
    for blocks in 0..data.len() / 16 {
        // SAFETY: the kernel is available, and all places are the same long slice.
        let sums = unsafe { K::tags(&[key; 8], &[data.as_ptr(); 8], blocks) };
        for sum in &sums[..K::LANES] {
            assert_eq!(poly::finish(*sum, &key, &data[16 * blocks..]), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_packets(
        key in any::<[u8; 32]>(),
        lens in prop::collection::vec(0usize..1600, 0..if cfg!(miri) { 6 } else { 50 }),
        numbers in prop::collection::vec(any::<u32>(), 1..50),
        fill in any::<u8>(),
        damage in any::<u16>(),
    ) {
        same_everywhere(key, &lens, &numbers, fill, damage.into());
    }
}
