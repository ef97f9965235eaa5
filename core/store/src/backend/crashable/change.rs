//! What a call changes on a disk.

use std::sync::Arc;

/// A write or a new length.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, data: Arc<[u8]> },
    Length(usize),
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write_inside(bytes, *offset, data),
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

/// Writes what fits: beyond a length that did not survive, the data did not either.
pub(super) fn write_inside(bytes: &mut [u8], offset: usize, data: &[u8]) {
    let end = bytes.len().min(offset.saturating_add(data.len()));
    if let Some(room) = bytes.get_mut(offset..end) {
        room.copy_from_slice(&data[..room.len()]);
    }
}
