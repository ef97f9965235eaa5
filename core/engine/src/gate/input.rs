//! Reading numbers and bytes of a chunk one after the other. automerge's numbers are LEB128, here in their shortest form only.

use alloc::format;
use alloc::string::ToString;

use crate::gate::Refusal;
use crate::id::ActorId;

/// Bytes not read yet.
#[derive(Clone, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| Refusal::Malformed(format!("{what}: {length} bytes wanted, {} are left", self.0.len())))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self, what: &str) -> Result<u8, Refusal> {
        Ok(self.take(1, what)?[0])
    }

    pub(super) fn actor(&mut self) -> Result<ActorId, Refusal> {
        let length = self.unsigned("actor")?;
        if length != ActorId::LEN as u64 {
            return Err(Refusal::Malformed(format!("actor of {length} bytes, {} wanted", ActorId::LEN)));
        }
        ActorId::from_slice(self.take(ActorId::LEN, "actor")?).ok_or_else(|| Refusal::Malformed("actor".to_string()))
    }

    /// LEB128, in its shortest form.
    pub(super) fn unsigned(&mut self, what: &str) -> Result<u64, Refusal> {
        // Most numbers are one byte.
        if let [byte @ ..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Refusal::Malformed(format!("{what}: not a number")))
    }

    /// Signed LEB128, in its shortest form.
    pub(super) fn signed(&mut self, what: &str) -> Result<i64, Refusal> {
        let mut value = 0_i64;
        let mut before = 0_u8;
        for shift in (0..70).step_by(7) {
            let byte = self.byte(what)?;
            if shift == 63 && byte != 0 && byte != 0x7f {
                break;
            }
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let sign = byte & 0x40 != 0;
                let spare = (byte == 0 && before & 0x40 == 0) || (byte == 0x7f && before & 0x40 != 0);
                if shift > 0 && spare {
                    break;
                }
                if sign && shift + 7 < 64 {
                    value |= -1 << (shift + 7);
                }
                return Ok(value);
            }
            before = byte;
        }
        Err(Refusal::Malformed(format!("{what}: not a number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsigned(bytes: &[u8]) -> Option<u64> {
        let mut input = Input(bytes);
        input.unsigned("it").ok().filter(|_| input.0.is_empty())
    }

    fn signed(bytes: &[u8]) -> Option<i64> {
        let mut input = Input(bytes);
        input.signed("it").ok().filter(|_| input.0.is_empty())
    }

    fn nine(byte: u8, last: &[u8]) -> [u8; 12] {
        let mut bytes = [byte; 12];
        bytes[9..9 + last.len()].copy_from_slice(last);
        bytes
    }

    #[test]
    fn numbers_are_read_to_both_ends_of_their_range() {
        for (bytes, value) in [(&[0][..], 0), (&[0x7f], 127), (&[0x80, 1], 128), (&nine(0xff, &[1])[..10], u64::MAX)] {
            assert_eq!(unsigned(bytes), Some(value), "{bytes:x?}");
        }
        let near: [(&[u8], i64); 9] = [
            (&[0], 0),
            (&[0x3f], 63),
            (&[0xc0, 0], 64),
            (&[0x7f], -1),
            (&[0x40], -64),
            (&[0xbf, 0x7f], -65),
            (&[0x80, 0x80, 0x7f], -16_384),
            (&nine(0xff, &[0])[..10], i64::MAX),
            (&nine(0x80, &[0x7f])[..10], i64::MIN),
        ];
        for (bytes, value) in near {
            assert_eq!(signed(bytes), Some(value), "{bytes:x?}");
        }
    }

    #[test]
    fn a_number_has_one_form_and_fits_into_sixty_four_bits() {
        let bad: [&[u8]; 7] = [
            &[],
            &[0x80],
            &[0x80, 0],
            &[0xff, 0x80, 0],
            &nine(0xff, &[2])[..10],
            &nine(0x80, &[0x7f])[..10],
            &nine(0xff, &[0x81, 0])[..11],
        ];
        for bytes in bad {
            assert_eq!(unsigned(bytes), None, "{bytes:x?}");
        }
        let bad: [&[u8]; 8] = [
            &[],
            &[0x80],
            &[0x80, 0],
            &[0xff, 0x7f],
            &nine(0x80, &[1])[..10],
            &nine(0xff, &[0x7e])[..10],
            &nine(0xff, &[0x80, 0])[..11],
            &nine(0xff, &[0xff, 0x7f])[..11],
        ];
        for bytes in bad {
            assert_eq!(signed(bytes), None, "{bytes:x?}");
        }
    }
}
