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
