//! What a store is kept on: something to connect to more than once, because after a failed call redb answers nothing more on
//! the connection that it was made on.

use std::fmt;
use std::io;

use redb::StorageBackend;

mod layer;
mod link;

pub(crate) use link::{Doubt, Link};

/// What a store is kept on.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// A new connection, to read only or also to write.
    ///
    /// # Errors
    /// The operating system's.
    fn connect(&self, access: Access) -> io::Result<Box<dyn StorageBackend>>;

    /// Whether what was connected to is still what the next open would find.
    ///
    /// # Errors
    /// What is there instead, for people to read.
    fn is_in_place(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether there is room for so many bytes more. Takes them, and gives them back.
    ///
    /// # Errors
    /// The operating system's.
    fn has_room(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing will be written to it.
    Read,
    /// Everything.
    Write,
}
