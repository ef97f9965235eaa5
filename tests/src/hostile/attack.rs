//! What an attack is: who makes it, what it may cost, and what it does.

use std::fmt;

use crate::hostile::scene::Scene;

/// Who attacks: what they hold decides what they can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Reaches the port, and holds nothing.
    Stranger,
    /// Holds a ticket, and is no member.
    TicketHolder,
    /// A member that may read.
    Reader,
    /// A member that may write.
    Writer,
    /// Another process of the same user on the host, at the control socket.
    Process,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stranger => "stranger",
            Self::TicketHolder => "ticket holder",
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Process => "other process",
        })
    }
}

/// The most that an attack may take of the node that it is made on, beyond what the honest writer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Resident memory at its highest during the attack, in MiB.
    pub memory_mib: u64,
    /// Files of the node's directory afterwards, in MiB.
    pub disk_mib: u64,
}

impl Share {
    /// For what leaves nothing: what an allocator and a store's file play by.
    pub const NOTHING: Self = Self { memory_mib: 32, disk_mib: 4 };

    /// So many MiB of memory, and of disk.
    pub const fn of(memory_mib: u64, disk_mib: u64) -> Self {
        Self { memory_mib, disk_mib }
    }
}

/// What an attack did, as its own end saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Messages, connections or requests that were delivered.
    pub sent: u64,
    /// How it shows that the other side heard them.
    pub seen: String,
    /// What the attacker reached that nobody may.
    pub broken: Vec<String>,
}

impl Effect {
    /// Holds that something is so; if not, `what` is a promise that was broken.
    #[must_use]
    pub fn holds(mut self, is_so: bool, what: impl Into<String>) -> Self {
        if !is_so {
            self.broken.push(what.into());
        }
        self
    }
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// By which it is asked for, and by which the threat model names it.
    pub name: &'static str,
    /// Who makes it.
    pub who: Who,
    /// What is done, for people.
    pub does: &'static str,
    /// What it may cost.
    pub share: Share,
    /// Does it until the scene is over. `Err` says why it did not reach: an attack that does nothing proves nothing.
    pub strike: fn(&mut Scene) -> Result<Effect, String>,
}

/// The effect of so many messages that were heard, as `seen` shows; or that it did not reach, if `heard` is false.
///
/// # Errors
/// It was not heard.
pub fn reached(heard: bool, sent: u64, seen: impl Into<String>) -> Result<Effect, String> {
    let seen = seen.into();
    if heard && sent > 0 { Ok(Effect { sent, seen, broken: Vec::new() }) } else { Err(format!("{sent} sent; {seen}")) }
}
