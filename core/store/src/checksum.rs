//! The checksum in front of every stored value: it makes a flipped bit an error instead of another value.

/// Bytes of a checksum.
pub(crate) const LEN: usize = 16;

/// BLAKE3 over the table's number, the key's length (4 bytes, big endian), the key and the value; the first 16 bytes.
///
/// The table and the key are in it, so that a whole value read from the wrong place is noticed too.
fn of(table: u8, key: &[u8], value: &[u8]) -> [u8; LEN] {
    let mut hasher = blake3::Hasher::new();
    // redb keys are far below 4 GiB (its pairs end at 3.75 GiB), so nothing is cut off.
    hasher.update(&[table]).update(&(key.len() as u32).to_be_bytes()).update(key).update(value);
    let mut checksum = [0; LEN];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..LEN]);
    checksum
}

/// Writes what is stored for `value` into `stored`, which is [`LEN`] bytes longer.
pub(crate) fn seal(table: u8, key: &[u8], value: &[u8], stored: &mut [u8]) {
    stored[..LEN].copy_from_slice(&of(table, key, value));
    stored[LEN..].copy_from_slice(value);
}

/// The value in what is stored, if it is the one that was written under this key.
pub(crate) fn open<'a>(table: u8, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (checksum, value) = stored.split_at_checked(LEN)?;
    (of(table, key, value) == checksum).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(table: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut stored = vec![0; LEN + value.len()];
        seal(table, key, value, &mut stored);
        stored
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let stored = sealed(3, b"key", b"value");
        assert_eq!(open(3, b"key", &stored), Some(&b"value"[..]));
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(3, b"key", &flipped), None, "bit {bit}");
        }
        for cut in 0..stored.len() {
            assert_eq!(open(3, b"key", &stored[..cut]), None, "cut to {cut}");
        }
    }

    #[test]
    fn a_value_belongs_to_its_table_and_key() {
        let stored = sealed(3, b"key", b"value");
        assert_eq!(open(4, b"key", &stored), None);
        assert_eq!(open(3, b"kez", &stored), None);
        assert_eq!(
            open(3, b"keyv", &[&stored[..LEN], b"alue"].concat()),
            None,
            "the border between key and value counts"
        );
    }

    #[test]
    fn an_empty_value_is_a_value() {
        assert_eq!(open(0, b"", &sealed(0, b"", b"")), Some(&b""[..]));
    }
}
