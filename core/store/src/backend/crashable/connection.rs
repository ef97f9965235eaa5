//! The disk as redb sees it.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::MutexGuard;

use redb::{BackendError, StorageBackend};

use super::change::Change;
use super::fault::{Call, Fault};
use super::{Disk, State, misplace};
use crate::medium::{Access, Medium};

/// One connection to a [`Disk`], as given to redb.
pub struct Connection {
    pub(super) disk: Disk,
    pub(super) power_cycle: u64,
    pub(super) number: u64,
}

impl Connection {
    /// The disk, and how the call goes wrong although it says that it worked.
    fn state(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.disk.state();
        if state.power_cycle != self.power_cycle {
            return Err(cut_off());
        }
        match state.call(call) {
            None => Ok((state, None)),
            Some(fault) => match fault.error() {
                Some(error) => Err(error),
                None => Ok((state, Some(fault))),
            },
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::other("the simulated disk was cut off")
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.disk).finish()
    }
}

impl StorageBackend for Connection {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state(Call::Read)?.0.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, _) = self.state(Call::Read)?;
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = state.current.get(from..from.saturating_add(out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.state(Call::Length)?.0.change(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state(Call::Sync)?.0.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match self.state(Call::Write) {
            Ok((mut state, fault)) => {
                let length = state.current.len();
                if offset.saturating_add(data.len()) > length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let offset = match fault {
                    Some(Fault::Lost) => return Ok(()),
                    Some(_) => misplace(offset, data.len(), length, state.sector, state.calls),
                    None => offset,
                };
                state.change(Change::Write { offset, data: data.into() });
                Ok(())
            }
            Err(error) => {
                // A write that fails may have got half way.
                let mut state = self.disk.state();
                if state.power_cycle == self.power_cycle {
                    state.change(Change::Write { offset, data: data[..data.len() / 2].into() });
                }
                Err(error)
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.locked_by == Some(self.number) {
            state.locked_by = None;
        }
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        // Only the whole disk can be locked; redb asks for that when parts are refused.
        if !matches!(start, Bound::Unbounded | Bound::Included(0)) || end != Bound::Unbounded {
            return Err(BackendError::Unsupported);
        }
        let mut state = self.disk.state();
        if state.power_cycle != self.power_cycle {
            return Err(cut_off().into());
        }
        if state.locked_by.is_some_and(|holder| holder != self.number) {
            return Ok(false);
        }
        state.locked_by = Some(self.number);
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        self.close().map_err(BackendError::from)
    }
}

/// A disk as a medium: of the power cycle in which it was made, as the connections are that are made to it.
#[derive(Debug)]
pub struct Plug {
    pub(super) disk: Disk,
    pub(super) power_cycle: u64,
}

impl Medium for Plug {
    fn connect(&self, _: Access) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Connection { power_cycle: self.power_cycle, ..self.disk.backend() }))
    }
}
