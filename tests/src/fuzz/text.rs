//! Text that people and programs paste: tickets, ids, paths.

use anabranch_engine::document::Path;
use anabranch_engine::id::{DeviceId, DocumentId};
use anabranch_engine::space::ticket::Ticket;

use super::input::Input;

/// A ticket as it was pasted, or one with the right check bytes around any others.
pub fn ticket(data: &[u8]) {
    let mut input = Input::new(data);
    let text =
        if input.byte() & 1 == 0 { String::from_utf8_lossy(input.rest()).into_owned() } else { sealed(input.rest()) };
    match text.parse::<Ticket>() {
        Ok(ticket) => assert_eq!(ticket.to_string().parse(), Ok(ticket)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let shown = text.parse::<DeviceId>().map(|id| id.to_string());
    assert!(shown.is_err() || shown == Ok(text.to_lowercase()));
    assert!(text.parse::<DocumentId>().is_err() || text.len() == 32);
}

/// A ticket of these bytes.
pub fn sealed(bytes: &[u8]) -> String {
    let hash = blake3::Hasher::new().update(b"anabranch/v1/ticket\0").update(bytes).finalize();
    format!("anabranch1{}", base32(&[bytes, &hash.as_bytes()[..4]].concat()))
}

fn base32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digit = |first: usize| (first..first + 5).fold(0, |digit, at| digit << 1 | usize::from(bit(at)));
    (0..(bytes.len() * 8).div_ceil(5)).map(|i| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[digit(i * 5)])).collect()
}

/// A path: what is read is written again, and read alike.
pub fn path(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<Path>() {
        Ok(path) => {
            let written = path.to_string();
            assert_eq!(written.parse(), Ok(path));
            assert!(written == text || written == format!("/{text}"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
