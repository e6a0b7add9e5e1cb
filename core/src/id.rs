//! Client ids: the names of sessions, each of which contains its shard. (SPEC section 9.1)

use core::fmt;

/// One of at most 256 machines that share the clients of an edge process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct ShardId(u8);

image!(ShardId { 0 });

impl ShardId {
    /// Returns the shard with this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Returns its number.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

/// The name of a session for the client and the backend. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

image!(ClientId { 0 });

impl ClientId {
    /// Returns the id with this number. Every number is an id, assigned or not.
    #[inline]
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Returns its number, as on the wire.
    #[inline]
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the shard that assigned it: the top 8 bits.
    #[inline]
    #[must_use]
    pub const fn shard(self) -> ShardId {
        let [top, ..] = self.0.to_be_bytes();
        ShardId(top)
    }

    /// Returns the home of the edge that assigned it, if that has one (SPEC 40.2): the 12 bits below the shard.
    #[inline]
    #[must_use]
    pub const fn home(self) -> u16 {
        let [_, high, low, ..] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low]) >> 4
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown() {
        let id = ClientId::from_u64(0x0102_0304_0506_0708);
        assert_eq!(id.to_string(), "0102030405060708");
        assert_eq!(format!("{id:?}"), "ClientId(0102030405060708)");
        assert_eq!(
            (id.shard().as_u8(), id.as_u64()),
            (1, 0x0102_0304_0506_0708)
        );
        assert_eq!(id.home(), 0x020, "the 12 bits below the shard");
    }
}
