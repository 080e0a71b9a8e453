//! The kernel for AVX2: 8 ChaCha20 blocks in a pass, 4 packets in a Poly1305 vector (26-bit limbs).
//!
//! Every function here is `unsafe` for the instructions that the machine must have, and for what `Kernel` says about
//! pointers.

use std::arch::x86_64::*;

use super::poly::{self, Sum};
use super::{Kernel, Lanes, BLOCK};

pub(super) struct Avx2;

type V = __m256i;

const MASK26: i64 = (1 << 26) - 1;

impl Kernel for Avx2 {
    const NAME: &'static str = "avx2";
    const BLOCKS: usize = 8;
    const LANES: usize = 4;

    fn available() -> bool {
        is_x86_feature_detected!("avx2")
    }

    unsafe fn scattered(key: &[u32; 8], lanes: &Lanes) {
        scattered(key, lanes);
    }

    unsafe fn straight(key: &[u32; 8], nonce: u32, counter: u32, place: *mut u8) {
        straight(key, nonce, counter, place);
    }

    unsafe fn tags(keys: &[[u8; 32]; 8], places: &[*const u8; 8], blocks: usize) -> [Sum; 8] {
        tags(keys, places, blocks)
    }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn xor_half(place: *mut u8, stream: V) {
    let place = place.cast::<V>();
    _mm256_storeu_si256(place, _mm256_xor_si256(_mm256_loadu_si256(place), stream));
}

#[target_feature(enable = "avx2")]
unsafe fn scattered(key: &[u32; 8], lanes: &Lanes) {
    let counter = _mm256_loadu_si256(lanes.counter.as_ptr().cast());
    let nonce = _mm256_loadu_si256(lanes.nonce.as_ptr().cast());
    let stream = key_stream(key, counter, nonce);
    for lane in 0..lanes.used {
        let (place, len) = (lanes.place[lane], lanes.len[lane]);
        let (low, high) = (stream[lane], stream[8 + lane]);
        if len >= BLOCK {
            xor_half(place, low);
            xor_half(place.add(32), high);
        } else {
            let mut block = [0u8; BLOCK];
            _mm256_storeu_si256(block.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(block.as_mut_ptr().add(32).cast(), high);
            for (index, byte) in block[..len].iter().enumerate() {
                *place.add(index) ^= byte;
            }
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn straight(key: &[u32; 8], nonce: u32, counter: u32, place: *mut u8) {
    let counter = _mm256_add_epi32(_mm256_set1_epi32(counter as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let stream = key_stream(key, counter, _mm256_set1_epi32(nonce as i32));
    for block in 0..8 {
        let place = place.add(BLOCK * block);
        xor_half(place, stream[block]);
        xor_half(place.add(32), stream[8 + block]);
    }
}

macro_rules! rotate {
    ($x:expr, $left:literal) => {
        _mm256_or_si256(_mm256_slli_epi32($x, $left), _mm256_srli_epi32($x, 32 - $left))
    };
}

/// The quarter rounds of one half of a double round, side by side to keep all units busy.
macro_rules! quarters {
    ($r16:ident, $r8:ident, $(($a:ident, $b:ident, $c:ident, $d:ident)),+) => {
        $($a = _mm256_add_epi32($a, $b); $d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $r16);)+
        $($c = _mm256_add_epi32($c, $d); $b = _mm256_xor_si256($b, $c); $b = rotate!($b, 12);)+
        $($a = _mm256_add_epi32($a, $b); $d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $r8);)+
        $($c = _mm256_add_epi32($c, $d); $b = _mm256_xor_si256($b, $c); $b = rotate!($b, 7);)+
    };
}

/// The key stream of 8 blocks: the first halves of all, then the second halves.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn key_stream(key: &[u32; 8], counter: V, nonce: V) -> [V; 16] {
    let word = |value: u32| _mm256_set1_epi32(value as i32);
    let r16 = _mm256_setr_epi8(
        2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13,
    );
    let r8 = _mm256_setr_epi8(
        3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14,
    );
    let (mut a0, mut a1, mut a2, mut a3) = (word(0x6170_7865), word(0x3320_646e), word(0x7962_2d32), word(0x6b20_6574));
    let (mut b0, mut b1, mut b2, mut b3) = (word(key[0]), word(key[1]), word(key[2]), word(key[3]));
    let (mut c0, mut c1, mut c2, mut c3) = (word(key[4]), word(key[5]), word(key[6]), word(key[7]));
    let (mut d0, mut d1, mut d2, mut d3) = (counter, _mm256_setzero_si256(), _mm256_setzero_si256(), nonce);
    for _ in 0..10 {
        quarters!(r16, r8, (a0, b0, c0, d0), (a1, b1, c1, d1));
        quarters!(r16, r8, (a2, b2, c2, d2), (a3, b3, c3, d3));
        quarters!(r16, r8, (a0, b1, c2, d3), (a1, b2, c3, d0));
        quarters!(r16, r8, (a2, b3, c0, d1), (a3, b0, c1, d2));
    }
    let add = |x: V, value: u32| _mm256_add_epi32(x, _mm256_set1_epi32(value as i32));
    let low = transpose([
        add(a0, 0x6170_7865),
        add(a1, 0x3320_646e),
        add(a2, 0x7962_2d32),
        add(a3, 0x6b20_6574),
        add(b0, key[0]),
        add(b1, key[1]),
        add(b2, key[2]),
        add(b3, key[3]),
    ]);
    let high = transpose([
        add(c0, key[4]),
        add(c1, key[5]),
        add(c2, key[6]),
        add(c3, key[7]),
        _mm256_add_epi32(d0, counter),
        d1,
        d2,
        _mm256_add_epi32(d3, nonce),
    ]);
    let mut all = [_mm256_setzero_si256(); 16];
    all[..8].copy_from_slice(&low);
    all[8..].copy_from_slice(&high);
    all
}

/// Rows and columns of 8 by 8 words change places.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn transpose(x: [V; 8]) -> [V; 8] {
    let pair = |i: usize| (_mm256_unpacklo_epi32(x[i], x[i + 1]), _mm256_unpackhi_epi32(x[i], x[i + 1]));
    let ((a0, a1), (a2, a3), (a4, a5), (a6, a7)) = (pair(0), pair(2), pair(4), pair(6));
    let b0 = _mm256_unpacklo_epi64(a0, a2);
    let b1 = _mm256_unpackhi_epi64(a0, a2);
    let b2 = _mm256_unpacklo_epi64(a1, a3);
    let b3 = _mm256_unpackhi_epi64(a1, a3);
    let b4 = _mm256_unpacklo_epi64(a4, a6);
    let b5 = _mm256_unpackhi_epi64(a4, a6);
    let b6 = _mm256_unpacklo_epi64(a5, a7);
    let b7 = _mm256_unpackhi_epi64(a5, a7);
    [
        _mm256_permute2x128_si256(b0, b4, 0x20),
        _mm256_permute2x128_si256(b1, b5, 0x20),
        _mm256_permute2x128_si256(b2, b6, 0x20),
        _mm256_permute2x128_si256(b3, b7, 0x20),
        _mm256_permute2x128_si256(b0, b4, 0x31),
        _mm256_permute2x128_si256(b1, b5, 0x31),
        _mm256_permute2x128_si256(b2, b6, 0x31),
        _mm256_permute2x128_si256(b3, b7, 0x31),
    ]
}

/// Four 130-bit numbers in limbs of 26 bits.
type Limbs = [V; 5];

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn split(low: V, high: V) -> Limbs {
    let mask = _mm256_set1_epi64x(MASK26);
    [
        _mm256_and_si256(low, mask),
        _mm256_and_si256(_mm256_srli_epi64(low, 26), mask),
        _mm256_and_si256(_mm256_or_si256(_mm256_srli_epi64(low, 52), _mm256_slli_epi64(high, 12)), mask),
        _mm256_and_si256(_mm256_srli_epi64(high, 14), mask),
        _mm256_srli_epi64(high, 40),
    ]
}

/// The products of the low halves of 64-bit words.
///
/// The instruction is spelled out, as LLVM takes `_mm256_mul_epu32` for a multiplication of whole words whose high
/// halves happen to be zero, loses sight of that at the loop's border, and then makes three multiplications of each.
#[cfg(not(miri))]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn multiply(a: V, b: V) -> V {
    let product;
    std::arch::asm!(
        "vpmuludq {}, {}, {}",
        lateout(ymm_reg) product, in(ymm_reg) a, in(ymm_reg) b,
        options(pure, nomem, nostack, preserves_flags)
    );
    product
}

#[cfg(miri)]
unsafe fn multiply(a: V, b: V) -> V {
    _mm256_mul_epu32(a, b)
}

/// The limbs of `h * r`, not reduced; `s` is `5 * r`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn products(h: &Limbs, r: &Limbs, s: &Limbs) -> Limbs {
    macro_rules! dot {
        ($($a:expr, $b:expr);+) => {{
            let terms = [$(multiply($a, $b)),+];
            let left = _mm256_add_epi64(terms[0], terms[1]);
            let right = _mm256_add_epi64(terms[2], terms[3]);
            _mm256_add_epi64(_mm256_add_epi64(left, right), terms[4])
        }};
    }
    [
        dot!(h[0], r[0]; h[1], s[4]; h[2], s[3]; h[3], s[2]; h[4], s[1]),
        dot!(h[0], r[1]; h[1], r[0]; h[2], s[4]; h[3], s[3]; h[4], s[2]),
        dot!(h[0], r[2]; h[1], r[1]; h[2], r[0]; h[3], s[4]; h[4], s[3]),
        dot!(h[0], r[3]; h[1], r[2]; h[2], r[1]; h[3], r[0]; h[4], s[4]),
        dot!(h[0], r[4]; h[1], r[3]; h[2], r[2]; h[3], r[1]; h[4], r[0]),
    ]
}

/// Carry from limb to limb, so that they can be multiplied again.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn carried([d0, d1, d2, d3, d4]: Limbs) -> Limbs {
    let mask = _mm256_set1_epi64x(MASK26);
    let carry = |x: V| _mm256_srli_epi64(x, 26);
    let rest = |x: V| _mm256_and_si256(x, mask);
    // Two chains at once: from limb 0 and from limb 3.
    let d1 = _mm256_add_epi64(d1, carry(d0));
    let d4 = _mm256_add_epi64(d4, carry(d3));
    let (d0, d3) = (rest(d0), rest(d3));
    let d2 = _mm256_add_epi64(d2, carry(d1));
    let round = carry(d4);
    let d0 = _mm256_add_epi64(d0, _mm256_add_epi64(round, _mm256_slli_epi64(round, 2)));
    let (d1, d4) = (rest(d1), rest(d4));
    let d3 = _mm256_add_epi64(d3, carry(d2));
    let d1 = _mm256_add_epi64(d1, carry(d0));
    let (d0, d2) = (rest(d0), rest(d2));
    let d4 = _mm256_add_epi64(d4, carry(d3));
    [d0, d1, d2, rest(d3), d4]
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn added(a: &Limbs, b: &Limbs) -> Limbs {
    [
        _mm256_add_epi64(a[0], b[0]),
        _mm256_add_epi64(a[1], b[1]),
        _mm256_add_epi64(a[2], b[2]),
        _mm256_add_epi64(a[3], b[3]),
        _mm256_add_epi64(a[4], b[4]),
    ]
}

/// A whole block as a number.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn block(low: V, high: V) -> Limbs {
    let mut limbs = split(low, high);
    limbs[4] = _mm256_or_si256(limbs[4], _mm256_set1_epi64x(1 << 24));
    limbs
}

/// Five times a number, by which its limbs come round.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn fivefold(r: &Limbs) -> Limbs {
    let mut s = *r;
    for limb in &mut s {
        *limb = _mm256_add_epi64(*limb, _mm256_slli_epi64(*limb, 2));
    }
    s
}

/// Two blocks of each of 4 packets, at the offset: low and high words of the first, then of the second.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_two(places: &[*const u8; 8], offset: usize) -> [V; 4] {
    let load = |lane: usize| _mm256_loadu_si256(places[lane].add(offset).cast());
    let (p0, p1, p2, p3) = (load(0), load(1), load(2), load(3));
    let low01 = _mm256_unpacklo_epi64(p0, p1);
    let high01 = _mm256_unpackhi_epi64(p0, p1);
    let low23 = _mm256_unpacklo_epi64(p2, p3);
    let high23 = _mm256_unpackhi_epi64(p2, p3);
    [
        _mm256_permute2x128_si256(low01, low23, 0x20),
        _mm256_permute2x128_si256(high01, high23, 0x20),
        _mm256_permute2x128_si256(low01, low23, 0x31),
        _mm256_permute2x128_si256(high01, high23, 0x31),
    ]
}

/// One block of each of 4 packets.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_one(places: &[*const u8; 8], offset: usize) -> [V; 2] {
    let load = |lane: usize| _mm_loadu_si128(places[lane].add(offset).cast());
    let p01 = _mm256_set_m128i(load(2), load(0));
    let p23 = _mm256_set_m128i(load(3), load(1));
    [_mm256_unpacklo_epi64(p01, p23), _mm256_unpackhi_epi64(p01, p23)]
}

#[target_feature(enable = "avx2")]
unsafe fn tags(keys: &[[u8; 32]; 8], places: &[*const u8; 8], blocks: usize) -> [Sum; 8] {
    let key_places: [*const u8; 8] = std::array::from_fn(|lane| keys[lane].as_ptr());
    let [low, high] = load_one(&key_places, 0);
    let r = split(
        _mm256_and_si256(low, _mm256_set1_epi64x(0x0fff_fffc_0fff_ffff)),
        _mm256_and_si256(high, _mm256_set1_epi64x(0x0fff_fffc_0fff_fffc)),
    );
    let s = fivefold(&r);
    // Two blocks share their carries: (h + first) * r^2 + second * r.
    let r2 = carried(products(&r, &r, &s));
    let s2 = fivefold(&r2);
    let mut h = [_mm256_setzero_si256(); 5];
    let mut offset = 0;
    for _ in 0..blocks / 2 {
        let [low0, high0, low1, high1] = load_two(places, offset);
        let first = products(&added(&h, &block(low0, high0)), &r2, &s2);
        h = carried(added(&first, &products(&block(low1, high1), &r, &s)));
        offset += 32;
    }
    if blocks % 2 == 1 {
        let [low, high] = load_one(places, offset);
        h = carried(products(&added(&h, &block(low, high)), &r, &s));
    }
    let mut limbs = [[0u64; 4]; 5];
    for (words, limb) in limbs.iter_mut().zip(h) {
        _mm256_storeu_si256(words.as_mut_ptr().cast(), limb);
    }
    let mut sums = [[0; 3]; 8];
    for (lane, sum) in sums.iter_mut().enumerate().take(4) {
        *sum = pack(std::array::from_fn(|limb| limbs[limb][lane]));
    }
    sums
}

/// From limbs of 26 bits, each perhaps a little too large, to limbs of 44.
fn pack(mut h: [u64; 5]) -> Sum {
    for i in 0..4 {
        h[i + 1] += h[i] >> 26;
        h[i] &= MASK26 as u64;
    }
    h[0] += (h[4] >> 26) * 5;
    h[4] &= MASK26 as u64;
    h[1] += h[0] >> 26;
    h[0] &= MASK26 as u64;
    let whole = u128::from(h[0]) + (u128::from(h[1]) << 26) + (u128::from(h[2]) << 52) + (u128::from(h[3]) << 78);
    let whole = whole.wrapping_add(u128::from(h[4] & 0xff_ffff) << 104);
    // Bits from 128 on: those of the highest limb above its 24th. Nothing can be carried there from below, as the
    // lower limbs stay below 2^104 plus one.
    poly::from_wide(whole as u64, (whole >> 64) as u64, h[4] >> 24)
}
