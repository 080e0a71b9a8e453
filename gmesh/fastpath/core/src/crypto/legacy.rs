//! Datagrams of the legacy protocol: CBC with the same IV for each packet, then an HMAC over what was encrypted.
//!
//! The encryption of one packet is a chain, so several packets are encrypted side by side. Ciphers and digests are
//! known by OpenSSL's numbers. Not here: sequence numbers, which are the first bytes of what is encrypted; compression.

use std::ops::Range;

use cbc::Decryptor;
use cipher::array::Array;
use cipher::inout::InOutBuf;
use cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockSizeUser, InnerIvInit, KeyInit};
use hmac::Hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of the sequence number that each packet begins with.
pub const NUMBER: usize = 4;
/// Packets encrypted side by side.
const LANES: usize = 8;
/// The longest MAC there is.
const MAX_MAC: usize = 64;

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was not made with this key.
    NotAuthentic,
    /// It is authentic, as far as the key can tell, but nonsense.
    Damaged,
}

enum Cipher {
    None,
    Aes128(Box<aes::Aes128>),
    Aes192(Box<aes::Aes192>),
    Aes256(Box<aes::Aes256>),
    Blowfish(Box<blowfish::Blowfish>),
}

enum Digest {
    Sha1(Box<Hmac<sha1::Sha1>>),
    Sha256(Box<Hmac<sha2::Sha256>>),
    Sha384(Box<Hmac<sha2::Sha384>>),
    Sha512(Box<Hmac<sha2::Sha512>>),
}

/// The key of one direction.
pub struct LegacyKey {
    cipher: Cipher,
    block: usize,
    iv: Zeroizing<Vec<u8>>,
    digest: Option<Digest>,
    mac_len: usize,
}

fn boxed<C: KeyInit>(key: &[u8]) -> Option<Box<C>> {
    C::new_from_slice(key).ok().map(Box::new)
}

impl Digest {
    fn new(nid: u32, key: &[u8]) -> Option<(Self, usize)> {
        Some(match nid {
            64 => (Self::Sha1(boxed(key)?), 20),
            672 => (Self::Sha256(boxed(key)?), 32),
            673 => (Self::Sha384(boxed(key)?), 48),
            674 => (Self::Sha512(boxed(key)?), 64),
            _ => return None,
        })
    }

    /// The whole MAC; the rest of the array stays zero.
    fn mac(&self, body: &[u8]) -> [u8; MAX_MAC] {
        fn of<M: hmac::Mac + Clone>(keyed: &M, body: &[u8]) -> [u8; MAX_MAC] {
            let mut mac = [0; MAX_MAC];
            let bytes = keyed.clone().chain_update(body).finalize().into_bytes();
            mac[..bytes.len()].copy_from_slice(&bytes);
            mac
        }
        match self {
            Self::Sha1(keyed) => of(&**keyed, body),
            Self::Sha256(keyed) => of(&**keyed, body),
            Self::Sha384(keyed) => of(&**keyed, body),
            Self::Sha512(keyed) => of(&**keyed, body),
        }
    }
}

impl LegacyKey {
    /// `material` is key and IV. None for algorithms that are not done here, or sizes that do not fit.
    #[must_use]
    pub fn new(cipher: u32, digest: u32, mac_len: usize, material: &[u8]) -> Option<Self> {
        let (key_len, block) = match cipher {
            0 => (1, 1),
            91 => (16, 8),
            419 => (16, 16),
            423 => (24, 16),
            427 => (32, 16),
            _ => return None,
        };
        let iv_len = if block == 1 { 0 } else { block };
        if material.len() != key_len + iv_len {
            return None;
        }
        let (key, iv) = material.split_at(key_len);
        let cipher = match cipher {
            91 => Cipher::Blowfish(boxed(key)?),
            419 => Cipher::Aes128(boxed(key)?),
            423 => Cipher::Aes192(boxed(key)?),
            427 => Cipher::Aes256(boxed(key)?),
            _ => Cipher::None,
        };
        let (digest, mac_len) = if digest == 0 || mac_len == 0 {
            (None, 0)
        } else {
            let (digest, size) = Digest::new(digest, material)?;
            if mac_len > size {
                return None;
            }
            (Some(digest), mac_len)
        };
        Some(Self { cipher, block, iv: Zeroizing::new(iv.to_vec()), digest, mac_len })
    }

    /// Whether a datagram can prove that it was made with this key.
    #[must_use]
    pub fn has_mac(&self) -> bool {
        self.mac_len > 0
    }

    /// Bytes on the wire for so many bytes of number and frame.
    #[must_use]
    pub fn sealed_len(&self, plain: usize) -> usize {
        self.body_len(plain) + self.mac_len
    }

    /// How long a datagram is at least.
    #[must_use]
    pub fn shortest(&self) -> usize {
        NUMBER + self.mac_len
    }

    fn body_len(&self, plain: usize) -> usize {
        match self.cipher {
            Cipher::None => plain,
            _ => (plain / self.block + 1) * self.block,
        }
    }

    /// Seal each range of plain bytes where it lies; `sealed_len` bytes from its start on are overwritten.
    ///
    /// Panics where they do not fit into the buffer.
    pub fn seal(&self, buffer: &mut [u8], plains: &[Range<usize>]) {
        match &self.cipher {
            Cipher::None => {}
            Cipher::Aes128(cipher) => self.encrypt(&**cipher, buffer, plains),
            Cipher::Aes192(cipher) => self.encrypt(&**cipher, buffer, plains),
            Cipher::Aes256(cipher) => self.encrypt(&**cipher, buffer, plains),
            Cipher::Blowfish(cipher) => self.encrypt(&**cipher, buffer, plains),
        }
        if let Some(digest) = &self.digest {
            for plain in plains {
                let end = plain.start + self.body_len(plain.len());
                let mac = digest.mac(&buffer[plain.start..end]);
                buffer[end..end + self.mac_len].copy_from_slice(&mac[..self.mac_len]);
            }
        }
    }

    /// Whether the MAC proves that the datagram was made with this key. Never true for keys without a MAC.
    #[must_use]
    pub fn verify(&self, datagram: &[u8]) -> bool {
        let Some(digest) = &self.digest else { return false };
        if datagram.len() < self.shortest() {
            return false;
        }
        let (body, mac) = datagram.split_at(datagram.len() - self.mac_len);
        digest.mac(body)[..self.mac_len].ct_eq(mac).into()
    }

    /// Decrypt a datagram where it lies, if it is authentic; how many bytes of number and frame it begins with.
    ///
    /// A datagram that is not authentic stays as it was.
    pub fn open(&self, datagram: &mut [u8]) -> Result<usize, Refused> {
        if datagram.len() < self.shortest() || (self.has_mac() && !self.verify(datagram)) {
            return Err(Refused::NotAuthentic);
        }
        let body = datagram.len() - self.mac_len;
        self.decrypt(&mut datagram[..body])
    }

    /// Decrypt what was sealed with this very key, without looking at its MAC: makes plain again what is ours.
    pub fn decrypt(&self, body: &mut [u8]) -> Result<usize, Refused> {
        match &self.cipher {
            Cipher::None => Ok(body.len()),
            Cipher::Aes128(cipher) => self.decrypt_with(&**cipher, body),
            Cipher::Aes192(cipher) => self.decrypt_with(&**cipher, body),
            Cipher::Aes256(cipher) => self.decrypt_with(&**cipher, body),
            Cipher::Blowfish(cipher) => self.decrypt_with(&**cipher, body),
        }
    }

    /// Bytes of MAC at the end of each datagram.
    #[must_use]
    pub fn mac_len(&self) -> usize {
        self.mac_len
    }

    fn encrypt<C: BlockCipherEncrypt>(&self, cipher: &C, buffer: &mut [u8], plains: &[Range<usize>]) {
        let block = self.block;
        let iv: Block<C> = Array::try_from(self.iv.as_slice()).unwrap_or_default();
        for group in plains.chunks(LANES) {
            // The longest first, so that those still at work are the front ones.
            let mut order: [(usize, usize); LANES] = [(0, 0); LANES];
            for (entry, plain) in order.iter_mut().zip(group) {
                let body = self.body_len(plain.len());
                let end = plain.start + body;
                buffer[plain.end..end].fill((body - plain.len()) as u8);
                *entry = (body / block, plain.start);
            }
            let order = &mut order[..group.len()];
            order.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.0));
            let mut chains: [Block<C>; LANES] = std::array::from_fn(|_| iv.clone());
            let mut active = order.len();
            for index in 0..order[0].0 {
                while order[active - 1].0 <= index {
                    active -= 1;
                }
                for (chain, entry) in chains.iter_mut().zip(&order[..active]) {
                    let at = entry.1 + index * block;
                    for (byte, plain) in chain.iter_mut().zip(&buffer[at..at + block]) {
                        *byte ^= plain;
                    }
                }
                cipher.encrypt_blocks(&mut chains[..active]);
                for (chain, entry) in chains.iter().zip(&order[..active]) {
                    let at = entry.1 + index * block;
                    buffer[at..at + block].copy_from_slice(chain);
                }
            }
        }
    }

    fn decrypt_with<C: BlockCipherDecrypt + BlockSizeUser>(
        &self,
        cipher: &C,
        body: &mut [u8],
    ) -> Result<usize, Refused> {
        if body.is_empty() || body.len() % self.block != 0 {
            return Err(Refused::Damaged);
        }
        let iv: Block<C> = Array::try_from(self.iv.as_slice()).unwrap_or_default();
        let mut chain = Decryptor::inner_iv_init(cipher, &iv);
        let (blocks, _) = InOutBuf::from(&mut *body).into_chunks();
        chain.decrypt_blocks_inout(blocks);
        let padding = body[body.len() - 1] as usize;
        let plain = body.len().checked_sub(padding).ok_or(Refused::Damaged)?;
        if padding == 0 || padding > self.block || body[plain..].iter().any(|&byte| byte as usize != padding) {
            return Err(Refused::Damaged);
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use cbc::Encryptor;
    use cipher::block_padding::Pkcs7;
    use cipher::BlockModeEncrypt;
    use proptest::prelude::*;

    use super::*;

    fn one(cipher: u32, digest: u32, mac_len: usize) -> LegacyKey {
        let size = match cipher {
            0 => 1,
            91 => 24,
            419 => 32,
            423 => 40,
            _ => 48,
        };
        let material: Vec<u8> = (0..size).map(|i| i as u8 * 5 + 1).collect();
        LegacyKey::new(cipher, digest, mac_len, &material).unwrap()
    }

    #[test]
    fn unknown_algorithms_and_sizes_are_refused() {
        assert!(LegacyKey::new(427, 672, 4, &[0; 47]).is_none());
        assert!(LegacyKey::new(427, 672, 33, &[0; 48]).is_none());
        assert!(LegacyKey::new(428, 672, 4, &[0; 48]).is_none());
        assert!(LegacyKey::new(427, 4, 4, &[0; 48]).is_none());
        assert!(!LegacyKey::new(427, 0, 4, &[0; 48]).unwrap().has_mac());
    }

    #[test]
    fn chains_side_by_side_are_those_of_one_packet() {
        let key = one(427, 672, 0);
        let material: Vec<u8> = (0..48).map(|i| i as u8 * 5 + 1).collect();
        for count in 1..20usize {
            let mut buffer: Vec<u8> = (0..count * 400).map(|i| (i / 3) as u8).collect();
            let plains: Vec<Range<usize>> = (0..count).map(|i| 400 * i..400 * i + 4 + (i * 53) % 380).collect();
            let before = buffer.clone();
            key.seal(&mut buffer, &plains);
            for plain in plains {
                let chain = Encryptor::<aes::Aes256>::inner_iv_init(
                    aes::Aes256::new_from_slice(&material[..32]).unwrap(),
                    &Array::try_from(&material[32..]).unwrap(),
                );
                let mut expected = before[plain.clone()].to_vec();
                expected.resize(key.sealed_len(plain.len()), 0);
                chain.encrypt_padded::<Pkcs7>(&mut expected, plain.len()).unwrap();
                assert_eq!(buffer[plain.start..plain.start + expected.len()], expected);
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(
            cipher in prop::sample::select(vec![0u32, 91, 419, 423, 427]),
            digest in prop::sample::select(vec![0u32, 64, 672, 673, 674]),
            mac_len in 0usize..=20,
            lens in prop::collection::vec(4usize..300, 1..12),
            damage in any::<u16>(),
        ) {
            let key = one(cipher, digest, mac_len);
            let mut buffer = vec![0; lens.len() * 400];
            let plains: Vec<Range<usize>> = lens.iter().enumerate().map(|(i, len)| 400 * i..400 * i + len).collect();
            for plain in &plains {
                buffer[plain.clone()].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 7) as u8);
            }
            let before = buffer.clone();
            key.seal(&mut buffer, &plains);
            for plain in plains {
                let sealed = key.sealed_len(plain.len());
                let mut datagram = buffer[plain.start..plain.start + sealed].to_vec();
                if key.has_mac() {
                    let mut bad = datagram.clone();
                    bad[damage as usize % sealed] ^= 1 << (damage % 8);
                    let copy = bad.clone();
                    prop_assert_eq!(key.open(&mut bad), Err(Refused::NotAuthentic));
                    prop_assert_eq!(bad, copy);
                    prop_assert!(key.verify(&datagram));
                }
                let len = key.open(&mut datagram).unwrap();
                prop_assert_eq!(&datagram[..len], &before[plain]);
            }
        }

        #[test]
        fn garbage_is_refused(mut garbage in prop::collection::vec(any::<u8>(), 0..200), digest in prop::sample::select(vec![0u32, 672])) {
            let _ = one(91, digest, 4).open(&mut garbage);
        }
    }
}
