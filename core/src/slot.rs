//! The poison slot: what is being applied is written down before it is tried, so that after a death the next start knows
//! what not to try again. It guards against the process dying, not the power, so nothing is fsynced.
//!
//! The file: magic `ANBS`, a version byte, the length of the body and a checksum of it (four bytes each, big endian), then
//! for each slot space, document, number of tips, tips.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_engine::gate::{Guard, Panicked, Slot};

/// Catches panics and writes nothing down: for replicas in memory, which do not outlive their process anyway.
pub(crate) struct CatchOnly;

impl Guard for CatchOnly {
    fn run(&self, _slot: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
        catch(f)
    }
}

// An engine or a merge that panicked inside `f` throws away what it was working on (`gate`).
fn catch(f: &mut dyn FnMut()) -> Result<(), Panicked> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Panicked(text.unwrap_or_else(|| "no message".to_owned()))
    })
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use file::{FILE_NAME, SlotFile};

#[cfg(not(target_arch = "wasm32"))]
mod file {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
    use std::path::Path;

    use anabranch_engine::gate::{Guard, Panicked, Slot};
    use anabranch_engine::id::{ChangeHash, DocumentId, SpaceId};
    use parking_lot::Mutex;
    use tracing::warn;

    use crate::identity;

    /// Name of the file in a replica's directory.
    pub(crate) const FILE_NAME: &str = "applying";
    const MAGIC: [u8; 4] = *b"ANBS";
    const VERSION: u8 = 1;
    const HEADER_LEN: usize = 4 + 1 + 4 + 4;
    /// A file with more is not ours. A slot names at most some thousand runs.
    const BYTES_MAX: u64 = 4 * 1024 * 1024;

    /// Writes slots to a file. Several threads may apply at once, each its own document.
    pub(crate) struct SlotFile {
        open: Mutex<Open>,
    }

    struct Open {
        /// Not there where the disk has no room for it.
        file: Option<File>,
        slots: Vec<(u64, Slot)>,
        next: u64,
        failed: bool,
    }

    impl SlotFile {
        /// Reads what an earlier process left behind, and clears it.
        pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<Slot>)> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = match identity::not_followed(&mut options).open(path) {
                Ok(file) => Some(file),
                // What is there is to be read all the same.
                Err(error) if leaves_reading(&error) => {
                    warn!(%error, "cannot note what is being applied");
                    None
                }
                Err(error) => return Err(error),
            };
            let mut bytes = Vec::new();
            if let Some(file) = &mut file {
                file.take(BYTES_MAX).read_to_end(&mut bytes)?;
            }
            let slots = match decode(&bytes) {
                Some(slots) => slots,
                None => {
                    // After a power cut this may be anything. Without it we only know less.
                    warn!(bytes = bytes.len(), "the note of what was being applied is not readable; ignored");
                    Vec::new()
                }
            };
            let mut open = Open { file, slots: Vec::new(), next: 0, failed: false };
            open.note();
            Ok((Self { open: Mutex::new(open) }, slots))
        }
    }

    /// The disk is full, or must not be written to.
    fn leaves_reading(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
        )
    }

    impl Open {
        fn write(&mut self) -> io::Result<()> {
            let Some(file) = &mut self.file else { return Ok(()) };
            let bytes = encode(self.slots.iter().map(|(_, slot)| slot));
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes)
        }

        fn note(&mut self) {
            // Applying goes on without the note: a full disk is the store's to report.
            if let Err(error) = self.write()
                && !self.failed
            {
                self.failed = true;
                warn!(%error, "cannot note what is being applied");
            }
        }
    }

    impl Guard for SlotFile {
        fn run(&self, slot: &Slot, f: &mut dyn FnMut()) -> Result<(), Panicked> {
            let id = {
                let mut open = self.open.lock();
                let id = open.next;
                open.next += 1;
                open.slots.push((id, slot.clone()));
                open.note();
                id
            };
            let result = super::catch(f);
            let mut open = self.open.lock();
            open.slots.retain(|(other, _)| *other != id);
            open.note();
            result
        }
    }

    fn encode<'a>(slots: impl Iterator<Item = &'a Slot>) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        for slot in slots {
            bytes.extend_from_slice(slot.space.as_bytes());
            bytes.extend_from_slice(slot.document.as_bytes());
            bytes.extend_from_slice(&(u32::try_from(slot.tips.len()).unwrap_or(u32::MAX)).to_be_bytes());
            for tip in &slot.tips {
                bytes.extend_from_slice(tip.as_bytes());
            }
        }
        let body_len = u32::try_from(bytes.len() - HEADER_LEN).unwrap_or(u32::MAX);
        let sum = checksum(&bytes[HEADER_LEN..]);
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5..9].copy_from_slice(&body_len.to_be_bytes());
        bytes[9..13].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The slots, or `None` if this is not such a file. What follows the body was left by an earlier, longer note.
    fn decode(bytes: &[u8]) -> Option<Vec<Slot>> {
        if bytes.is_empty() {
            return Some(Vec::new());
        }
        let (header, rest) = bytes.split_at_checked(HEADER_LEN)?;
        if header[..4] != MAGIC || header[4] != VERSION {
            return None;
        }
        let body_len = u32::from_be_bytes(header[5..9].try_into().ok()?);
        let sum = u32::from_be_bytes(header[9..13].try_into().ok()?);
        let mut body = rest.get(..usize::try_from(body_len).ok()?)?;
        if checksum(body) != sum {
            return None;
        }
        let mut take = |len: usize| {
            let (head, tail) = body.split_at_checked(len)?;
            body = tail;
            Some((head, tail.is_empty()))
        };
        let mut slots = Vec::new();
        let mut end = body_len == 0;
        while !end {
            let space = SpaceId::from_slice(take(SpaceId::LEN)?.0)?;
            let document = DocumentId::from_slice(take(DocumentId::LEN)?.0)?;
            let (count, last) = take(4)?;
            end = last;
            let mut tips = Vec::new();
            for _ in 0..u32::from_be_bytes(count.try_into().ok()?) {
                let (tip, last) = take(ChangeHash::LEN)?;
                tips.push(ChangeHash::from_slice(tip)?);
                end = last;
            }
            slots.push(Slot { space, document, tips });
        }
        Some(slots)
    }

    /// FNV-1a, 32 bits: tells a whole note from a torn one, no more.
    fn checksum(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn slot(byte: u8, tips: usize) -> Slot {
            Slot {
                space: SpaceId([byte; 32]),
                document: DocumentId([byte; 16]),
                tips: (0..tips).map(|_| ChangeHash([byte; 32])).collect(),
            }
        }

        #[test]
        fn the_slot_is_in_the_file_while_the_call_runs_and_gone_afterwards() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE_NAME);
            let (guard, left) = SlotFile::open(&path).unwrap();
            assert!(left.is_empty());
            guard
                .run(&slot(1, 300), &mut || {
                    assert_eq!(decode(&std::fs::read(&path).unwrap()).unwrap(), [slot(1, 300)]);
                    guard
                        .run(&slot(2, 0), &mut || {
                            let now = decode(&std::fs::read(&path).unwrap()).unwrap();
                            assert_eq!(now, [slot(1, 300), slot(2, 0)]);
                        })
                        .unwrap();
                })
                .unwrap();
            assert!(decode(&std::fs::read(&path).unwrap()).unwrap().is_empty());
        }

        #[test]
        fn a_death_leaves_the_slot_for_the_next_start_which_clears_it() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE_NAME);
            std::fs::write(&path, encode([slot(3, 2), slot(4, 1)].iter())).unwrap();
            let (_, left) = SlotFile::open(&path).unwrap();
            assert_eq!(left, [slot(3, 2), slot(4, 1)]);
            let (_, left) = SlotFile::open(&path).unwrap();
            assert!(left.is_empty());
        }

        #[test]
        fn a_panic_is_caught_with_its_text_and_clears_the_slot() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE_NAME);
            let (guard, _) = SlotFile::open(&path).unwrap();
            let panicked = guard.run(&slot(1, 1), &mut || panic!("a {} panic", "told")).unwrap_err();
            assert_eq!(panicked, Panicked("a told panic".to_owned()));
            assert!(decode(&std::fs::read(&path).unwrap()).unwrap().is_empty());
        }

        #[test]
        fn garbage_and_torn_notes_are_ignored() {
            let whole = encode([slot(3, 2)].iter());
            assert_eq!(decode(&whole).unwrap(), [slot(3, 2)]);
            for len in 1..whole.len() {
                assert!(decode(&whole[..len]).is_none(), "cut at {len}");
            }
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                assert_ne!(decode(&bytes), Some(vec![slot(3, 2)]), "byte {at} flipped");
            }
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE_NAME);
            std::fs::write(&path, b"something else entirely").unwrap();
            assert!(SlotFile::open(&path).unwrap().1.is_empty());
        }
    }
}
