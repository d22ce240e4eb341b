//! Hashes of a store's bytes: BLAKE3, written as 64 hexadecimal digits.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The hash of a file, a seal or a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of bytes in a context of its own (BLAKE3's key derivation), so that it is never the hash of a file.
    pub(super) fn derived(context: &str, bytes: &[u8]) -> Hash {
        Hash(blake3::derive_key(context, bytes))
    }

    /// The hash that these 64 hexadecimal digits are; None when they are not.
    pub fn parse(text: &str) -> Option<Hash> {
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let hash = blake3::Hash::from_hex(text).ok()?;
        lower.then_some(Hash(*hash.as_bytes()))
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Hash(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Hash::parse(&text).ok_or_else(|| serde::de::Error::custom("64 hexadecimal digits"))
    }
}

/// Hashes a file piece by piece.
#[derive(Default)]
pub(super) struct Hasher {
    hasher: blake3::Hasher,
}

impl Hasher {
    pub(super) fn update(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// How many bytes there were.
    pub(super) fn bytes(&self) -> u64 {
        self.hasher.count()
    }

    pub(super) fn finish(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }
}
