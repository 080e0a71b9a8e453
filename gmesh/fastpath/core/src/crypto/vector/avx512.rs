//! The kernel for AVX-512 with IFMA: 16 ChaCha20 blocks in a pass, 8 packets in a Poly1305 vector (44-bit limbs).
//!
//! Every function here is `unsafe` for the instructions that the machine must have, and for what `Kernel` says about
//! pointers.

// The build script has seen to it that this compiler has them.
#![allow(clippy::incompatible_msrv)]

use std::arch::x86_64::*;

use super::poly::{self, Sum};
use super::{Kernel, Lanes, BLOCK};

pub(super) struct Avx512;

type V = __m512i;

const MASK44: i64 = (1 << 44) - 1;
const MASK42: i64 = (1 << 42) - 1;

impl Kernel for Avx512 {
    const NAME: &'static str = "avx512";
    const BLOCKS: usize = 16;
    const LANES: usize = 8;

    fn available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma")
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

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn scattered(key: &[u32; 8], lanes: &Lanes) {
    let counter = _mm512_loadu_si512(lanes.counter.as_ptr().cast());
    let nonce = _mm512_loadu_si512(lanes.nonce.as_ptr().cast());
    let stream = key_stream(key, counter, nonce);
    for (lane, stream) in stream.into_iter().enumerate().take(lanes.used) {
        let (place, len) = (lanes.place[lane], lanes.len[lane]);
        if len >= BLOCK {
            xor_block(place, stream);
        } else {
            let mask = (1u64 << len) - 1;
            let data = _mm512_maskz_loadu_epi8(mask, place.cast());
            _mm512_mask_storeu_epi8(place.cast(), mask, _mm512_xor_si512(data, stream));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn straight(key: &[u32; 8], nonce: u32, counter: u32, place: *mut u8) {
    let order = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let counter = _mm512_add_epi32(_mm512_set1_epi32(counter as i32), order);
    let stream = key_stream(key, counter, _mm512_set1_epi32(nonce as i32));
    for (block, stream) in stream.into_iter().enumerate() {
        xor_block(place.add(BLOCK * block), stream);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn xor_block(place: *mut u8, stream: V) {
    _mm512_storeu_si512(place.cast(), _mm512_xor_si512(_mm512_loadu_si512(place.cast()), stream));
}

macro_rules! quarters {
    ($(($a:ident, $b:ident, $c:ident, $d:ident)),+) => {
        $($a = _mm512_add_epi32($a, $b); $d = _mm512_rol_epi32(_mm512_xor_si512($d, $a), 16);)+
        $($c = _mm512_add_epi32($c, $d); $b = _mm512_rol_epi32(_mm512_xor_si512($b, $c), 12);)+
        $($a = _mm512_add_epi32($a, $b); $d = _mm512_rol_epi32(_mm512_xor_si512($d, $a), 8);)+
        $($c = _mm512_add_epi32($c, $d); $b = _mm512_rol_epi32(_mm512_xor_si512($b, $c), 7);)+
    };
}

/// The key stream of 16 blocks.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn key_stream(key: &[u32; 8], counter: V, nonce: V) -> [V; 16] {
    let word = |value: u32| _mm512_set1_epi32(value as i32);
    let zero = _mm512_setzero_si512();
    let first = [
        word(0x6170_7865),
        word(0x3320_646e),
        word(0x7962_2d32),
        word(0x6b20_6574),
        word(key[0]),
        word(key[1]),
        word(key[2]),
        word(key[3]),
        word(key[4]),
        word(key[5]),
        word(key[6]),
        word(key[7]),
        counter,
        zero,
        zero,
        nonce,
    ];
    let [mut a0, mut a1, mut a2, mut a3, mut b0, mut b1, mut b2, mut b3, mut c0, mut c1, mut c2, mut c3, mut d0, mut d1, mut d2, mut d3] =
        first;
    for _ in 0..10 {
        quarters!((a0, b0, c0, d0), (a1, b1, c1, d1), (a2, b2, c2, d2), (a3, b3, c3, d3));
        quarters!((a0, b1, c2, d3), (a1, b2, c3, d0), (a2, b3, c0, d1), (a3, b0, c1, d2));
    }
    let mut last = [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3];
    for (word, first) in last.iter_mut().zip(first) {
        *word = _mm512_add_epi32(*word, first);
    }
    transpose(last)
}

/// Rows and columns of 16 by 16 words change places.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose(x: [V; 16]) -> [V; 16] {
    let mut pairs = x;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    // Afterwards `fours[4 * i + j]` has words 4i..4i+3 of blocks j, j+4, j+8 and j+12.
    let mut fours = pairs;
    for i in 0..4 {
        let [p0, p1, p2, p3] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
        fours[4 * i] = _mm512_unpacklo_epi64(p0, p2);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(p0, p2);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(p1, p3);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(p1, p3);
    }
    let mut blocks = x;
    for j in 0..4 {
        let low_even = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
        let low_odd = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
        let high_even = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
        let high_odd = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
        blocks[j] = _mm512_shuffle_i32x4(low_even, high_even, 0x88);
        blocks[8 + j] = _mm512_shuffle_i32x4(low_even, high_even, 0xdd);
        blocks[4 + j] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        blocks[12 + j] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
    }
    blocks
}

/// Eight 130-bit numbers in limbs of 44, 44 and 42 bits.
type Limbs = [V; 3];

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn split(low: V, high: V) -> Limbs {
    let mask = _mm512_set1_epi64(MASK44);
    [
        _mm512_and_si512(low, mask),
        _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(low, 44), _mm512_slli_epi64(high, 20)), mask),
        _mm512_srli_epi64(high, 24),
    ]
}

/// Add the low 52 bits of a product of 52-bit numbers.
#[cfg(not(miri))]
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
unsafe fn add_low(sum: V, a: V, b: V) -> V {
    _mm512_madd52lo_epu64(sum, a, b)
}

/// Add the high 52 bits of a product of 52-bit numbers.
#[cfg(not(miri))]
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
unsafe fn add_high(sum: V, a: V, b: V) -> V {
    _mm512_madd52hi_epu64(sum, a, b)
}

// Miri, by which this kernel is tested where no processor has the instructions, knows all of them but these two.
#[cfg(miri)]
unsafe fn add_low(sum: V, a: V, b: V) -> V {
    add_part(sum, a, b, 0)
}

#[cfg(miri)]
unsafe fn add_high(sum: V, a: V, b: V) -> V {
    add_part(sum, a, b, 52)
}

#[cfg(miri)]
unsafe fn add_part(sum: V, a: V, b: V, shift: u32) -> V {
    let [sum, a, b]: [[u64; 8]; 3] = [std::mem::transmute(sum), std::mem::transmute(a), std::mem::transmute(b)];
    let mask = (1u64 << 52) - 1;
    let parts: [u64; 8] = std::array::from_fn(|i| {
        let product = u128::from(a[i] & mask) * u128::from(b[i] & mask);
        sum[i].wrapping_add((product >> shift) as u64 & mask)
    });
    std::mem::transmute(parts)
}

/// The low and high parts of a sum of three products of 52-bit numbers.
macro_rules! dot {
    ($(($a:expr, $b:expr)),+) => {{
        let mut low = _mm512_setzero_si512();
        let mut high = _mm512_setzero_si512();
        $(
            low = add_low(low, $a, $b);
            high = add_high(high, $a, $b);
        )+
        (low, high)
    }};
}

/// Low and high parts of the limbs of products.
type Products = [(V, V); 3];

/// The limbs of `h * r`, not reduced; `s` is `20 * r`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
unsafe fn products(h: &Limbs, r: &Limbs, s: &Limbs) -> Products {
    [
        dot!((h[1], s[2]), (h[2], s[1]), (h[0], r[0])),
        dot!((h[1], r[0]), (h[2], s[2]), (h[0], r[1])),
        dot!((h[1], r[1]), (h[2], r[0]), (h[0], r[2])),
    ]
}

/// Carry from limb to limb, so that they can be multiplied again.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn carried([(l0, u0), (l1, u1), (l2, u2)]: Products) -> Limbs {
    // A high part counts 2^52, which is 2^8 in the next limb, or 2^10 beyond the last one, whose limb is shorter.
    let mask = _mm512_set1_epi64(MASK44);
    let l1 = _mm512_add_epi64(l1, _mm512_add_epi64(_mm512_srli_epi64(l0, 44), _mm512_slli_epi64(u0, 8)));
    let l2 = _mm512_add_epi64(l2, _mm512_add_epi64(_mm512_srli_epi64(l1, 44), _mm512_slli_epi64(u1, 8)));
    let round = _mm512_add_epi64(_mm512_srli_epi64(l2, 42), _mm512_slli_epi64(u2, 10));
    let h0 = _mm512_and_si512(l0, mask);
    let h0 = _mm512_add_epi64(h0, _mm512_add_epi64(round, _mm512_slli_epi64(round, 2)));
    let h1 = _mm512_add_epi64(_mm512_and_si512(l1, mask), _mm512_srli_epi64(h0, 44));
    let h2 = _mm512_and_si512(l2, _mm512_set1_epi64(MASK42));
    [_mm512_and_si512(h0, mask), h1, h2]
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn added(a: &Limbs, b: &Limbs) -> Limbs {
    [_mm512_add_epi64(a[0], b[0]), _mm512_add_epi64(a[1], b[1]), _mm512_add_epi64(a[2], b[2])]
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn both(a: &Products, b: &Products) -> Products {
    let mut sum = *a;
    for (sum, other) in sum.iter_mut().zip(b) {
        *sum = (_mm512_add_epi64(sum.0, other.0), _mm512_add_epi64(sum.1, other.1));
    }
    sum
}

/// A whole block as a number.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn block(low: V, high: V) -> Limbs {
    let [b0, b1, b2] = split(low, high);
    [b0, b1, _mm512_or_si512(b2, _mm512_set1_epi64(1 << 40))]
}

/// Twenty times a number, by which its limbs come round: 5 for the modulus, 4 as the limbs hold 132 bits.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn twentyfold(r: &Limbs) -> Limbs {
    let mut s = *r;
    for limb in &mut s {
        *limb = _mm512_add_epi64(_mm512_slli_epi64(*limb, 4), _mm512_slli_epi64(*limb, 2));
    }
    s
}

/// Four blocks of each of 8 packets, at the offset: low and high words of each block.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_four(places: &[*const u8; 8], offset: usize) -> [V; 8] {
    let load = |lane: usize| _mm512_loadu_si512(places[lane].add(offset).cast());
    let mut words = [_mm512_setzero_si512(); 8];
    let mut pairs = [_mm512_setzero_si512(); 8];
    for i in 0..4 {
        let (even, odd) = (load(2 * i), load(2 * i + 1));
        pairs[i] = _mm512_unpacklo_epi64(even, odd);
        pairs[4 + i] = _mm512_unpackhi_epi64(even, odd);
    }
    for half in 0..2 {
        let p = &pairs[4 * half..4 * half + 4];
        let even01 = _mm512_shuffle_i64x2(p[0], p[1], 0x88);
        let odd01 = _mm512_shuffle_i64x2(p[0], p[1], 0xdd);
        let even23 = _mm512_shuffle_i64x2(p[2], p[3], 0x88);
        let odd23 = _mm512_shuffle_i64x2(p[2], p[3], 0xdd);
        words[half] = _mm512_shuffle_i64x2(even01, even23, 0x88);
        words[2 + half] = _mm512_shuffle_i64x2(odd01, odd23, 0x88);
        words[4 + half] = _mm512_shuffle_i64x2(even01, even23, 0xdd);
        words[6 + half] = _mm512_shuffle_i64x2(odd01, odd23, 0xdd);
    }
    words
}

/// One block of each of 8 packets.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_one(places: &[*const u8; 8], offset: usize) -> [V; 2] {
    let mut words = [[0u64; 8]; 2];
    for lane in 0..8 {
        let place = places[lane].add(offset).cast::<u64>();
        words[0][lane] = place.read_unaligned();
        words[1][lane] = place.add(1).read_unaligned();
    }
    [_mm512_loadu_si512(words[0].as_ptr().cast()), _mm512_loadu_si512(words[1].as_ptr().cast())]
}

#[target_feature(enable = "avx512f,avx512ifma")]
unsafe fn tags(keys: &[[u8; 32]; 8], places: &[*const u8; 8], blocks: usize) -> [Sum; 8] {
    let key_places: [*const u8; 8] = std::array::from_fn(|lane| keys[lane].as_ptr());
    let [low, high] = load_one(&key_places, 0);
    let r = split(
        _mm512_and_si512(low, _mm512_set1_epi64(0x0fff_fffc_0fff_ffff)),
        _mm512_and_si512(high, _mm512_set1_epi64(0x0fff_fffc_0fff_fffc)),
    );
    let s = twentyfold(&r);
    // Two blocks share their carries: (h + first) * r^2 + second * r.
    let r2 = carried(products(&r, &r, &s));
    let s2 = twentyfold(&r2);
    let mut h = [_mm512_setzero_si512(); 3];
    let mut offset = 0;
    for _ in 0..blocks / 4 {
        let words = load_four(places, offset);
        for pair in words.chunks_exact(4) {
            let first = products(&added(&h, &block(pair[0], pair[1])), &r2, &s2);
            h = carried(both(&first, &products(&block(pair[2], pair[3]), &r, &s)));
        }
        offset += 64;
    }
    for _ in 0..blocks % 4 {
        let [low, high] = load_one(places, offset);
        h = carried(products(&added(&h, &block(low, high)), &r, &s));
        offset += 16;
    }
    let mut limbs = [[0u64; 8]; 3];
    for (words, limb) in limbs.iter_mut().zip(h) {
        _mm512_storeu_si512(words.as_mut_ptr().cast(), limb);
    }
    std::array::from_fn(|lane| poly::carried([limbs[0][lane], limbs[1][lane], limbs[2][lane]]))
}
