//! Poly1305 in 44-bit limbs with ordinary arithmetic: the ends of packets that vector units began.

const MASK44: u64 = (1 << 44) - 1;
const MASK42: u64 = (1 << 42) - 1;
/// The bit above a whole block of 16 bytes, in the highest limb.
const TOP: u64 = 1 << 40;

/// The sum so far, in limbs of 44, 44 and 42 bits; each may be a little too large.
pub(crate) type Sum = [u64; 3];

fn words(bytes: &[u8]) -> (u64, u64) {
    let mut low = [0; 8];
    let mut high = [0; 8];
    low.copy_from_slice(&bytes[..8]);
    high.copy_from_slice(&bytes[8..16]);
    (u64::from_le_bytes(low), u64::from_le_bytes(high))
}

fn limbs(low: u64, high: u64) -> Sum {
    [low & MASK44, (low >> 44 | high << 20) & MASK44, high >> 24]
}

/// The first half of a one-time key as the multiplier.
pub(crate) fn multiplier(key: &[u8; 32]) -> Sum {
    let (low, high) = words(key);
    limbs(low & 0x0fff_fffc_0fff_ffff, high & 0x0fff_fffc_0fff_fffc)
}

/// Two 64-bit halves and what lies above them, as limbs.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) fn from_wide(low: u64, high: u64, top: u64) -> Sum {
    [low & MASK44, (low >> 44 | high << 20) & MASK44, high >> 24 | top << 40]
}

fn wide(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

fn step(h: &mut Sum, r: &Sum, block: Sum) {
    let [h0, h1, h2] = [h[0] + block[0], h[1] + block[1], h[2] + block[2]];
    let (s1, s2) = (r[1] * 20, r[2] * 20);
    let d0 = wide(h0, r[0]) + wide(h1, s2) + wide(h2, s1);
    let mut d1 = wide(h0, r[1]) + wide(h1, r[0]) + wide(h2, s2);
    let mut d2 = wide(h0, r[2]) + wide(h1, r[1]) + wide(h2, r[0]);
    d1 += d0 >> 44;
    d2 += d1 >> 44;
    let carry = (d2 >> 42) as u64 * 5;
    let low = (d0 as u64 & MASK44) + carry;
    *h = [low & MASK44, (d1 as u64 & MASK44) + (low >> 44), d2 as u64 & MASK42];
}

/// Take the bytes that are left, and make the tag.
pub(crate) fn finish(mut h: Sum, key: &[u8; 32], rest: &[u8]) -> [u8; 16] {
    let r = multiplier(key);
    let mut blocks = rest.chunks_exact(16);
    for block in &mut blocks {
        let (low, high) = words(block);
        let mut block = limbs(low, high);
        block[2] |= TOP;
        step(&mut h, &r, block);
    }
    let tail = blocks.remainder();
    if !tail.is_empty() {
        let mut block = [0; 16];
        block[..tail.len()].copy_from_slice(tail);
        block[tail.len()] = 1;
        let (low, high) = words(&block);
        step(&mut h, &r, limbs(low, high));
    }
    tag(h, key)
}

/// Reduce fully and add the second half of the key.
fn tag(h: Sum, key: &[u8; 32]) -> [u8; 16] {
    let [mut h0, mut h1, mut h2] = h;
    // Twice round: the first carry out of the top may ripple through once more.
    for _ in 0..2 {
        h1 += h0 >> 44;
        h0 &= MASK44;
        h2 += h1 >> 44;
        h1 &= MASK44;
        h0 += (h2 >> 42) * 5;
        h2 &= MASK42;
    }
    h1 += h0 >> 44;
    h0 &= MASK44;
    h2 += h1 >> 44;
    h1 &= MASK44;
    let g0 = h0 + 5;
    let g1 = h1 + (g0 >> 44);
    let g2 = (h2 + (g1 >> 44)).wrapping_sub(1 << 42);
    // All ones where the sum is below 2^130 - 5 and stays.
    let keep = (g2 >> 63).wrapping_neg();
    let pick = |h: u64, g: u64| (h & keep) | (g & !keep);
    let (h0, h1, h2) = (pick(h0, g0 & MASK44), pick(h1, g1 & MASK44), pick(h2, g2 & MASK42));
    let low = h0 | h1 << 44;
    let high = h1 >> 20 | h2 << 24;
    let sum = u128::from(high) << 64 | u128::from(low);
    let (add_low, add_high) = words(&key[16..]);
    sum.wrapping_add(u128::from(add_high) << 64 | u128::from(add_low)).to_le_bytes()
}

/// What a vector unit does, for one packet: whole blocks only.
#[cfg(test)]
pub(crate) fn blocks(key: &[u8; 32], data: &[u8]) -> Sum {
    let r = multiplier(key);
    let mut h = [0; 3];
    for block in data.chunks_exact(16) {
        let (low, high) = words(block);
        let mut block = limbs(low, high);
        block[2] |= TOP;
        step(&mut h, &r, block);
    }
    h
}

/// The same sum with no limb too large for `finish`.
#[cfg_attr(not(all(target_arch = "x86_64", has_avx512)), allow(dead_code))]
pub(crate) fn carried([h0, h1, h2]: Sum) -> Sum {
    let h2 = h2 + (h1 >> 44);
    [h0 + (h2 >> 42) * 5, h1 & MASK44, h2 & MASK42]
}
