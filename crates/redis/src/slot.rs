//! The hash slot of a key: CRC16 (XMODEM) of the key, or of its hash tag, modulo 16384. Source: the cluster specification of
//! Redis and Valkey, "Key distribution model" and "Hash tags".

/// The number of hash slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// Returns the hash slot of a key.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// Returns the hash tag of a key: the part between its first `{` and the next `}`. `None` if the key has no such part,
/// or if the part is empty.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let length = memchr::memchr(b'}', &key[open + 1..])?;
    (length > 0).then(|| &key[open + 1..open + 1 + length])
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3, "the reference value of the specification");
        // Slots as `CLUSTER KEYSLOT` of Redis 7.0 reports them.
        for (key, slot) in
            [("foo", 12182), ("{foo}bar", 12182), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
    }
}
