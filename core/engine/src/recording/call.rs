//! A call of an engine as it stands in a recording: every [`Input`], and what drivers call besides `handle`. An edit is
//! recorded as the change that it made; heavy work only by its place in the order, because its result follows from it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::document::Maker;
use crate::id::{DeviceId, DocumentId, EntryHash, SpaceId};
use crate::space::roles::Role;
use crate::storage::{CommitId, Failure, Reply, ScanId, Scanned};
use crate::{Begins, Command, CommandId, HintId, Input, SessionId};

/// One call.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "the fields are those of `Input`, with plain numbers for ids")]
pub enum Call {
    /// [`Input::Command`].
    #[n(0)]
    Command {
        #[n(0)]
        id: u64,
        #[n(1)]
        command: Asked,
    },
    /// [`Input::Timeout`].
    #[n(1)]
    Timeout,
    /// [`Input::SessionOpened`].
    #[n(2)]
    SessionOpened {
        #[n(0)]
        session: u64,
        #[n(1)]
        peer: DeviceId,
        #[n(2)]
        opener: bool,
        #[n(3)]
        address: String,
    },
    /// [`Input::Frame`].
    #[n(3)]
    Frame {
        #[n(0)]
        session: u64,
        #[n(1)]
        bytes: ByteVec,
    },
    /// [`Input::Written`].
    #[n(4)]
    Written {
        #[n(0)]
        session: u64,
        #[n(1)]
        bytes: u64,
    },
    /// [`Input::SessionClosed`].
    #[n(5)]
    SessionClosed {
        #[n(0)]
        session: u64,
        #[n(1)]
        reason: String,
    },
    /// [`Input::DialFailed`].
    #[n(6)]
    DialFailed {
        #[n(0)]
        address: String,
        #[n(1)]
        reason: String,
    },
    /// [`Input::Listening`].
    #[n(7)]
    Listening {
        #[n(0)]
        address: String,
    },
    /// [`Input::Hint`].
    #[n(8)]
    Hint {
        #[n(0)]
        hint: u64,
        #[n(1)]
        from: DeviceId,
        #[n(2)]
        topic: String,
        #[n(3)]
        bytes: ByteVec,
    },
    /// [`Input::Stored`] of a commit.
    #[n(9)]
    Committed {
        #[n(0)]
        id: u64,
        #[n(1)]
        failure: Option<Failed>,
    },
    /// [`Input::Stored`] of a scan.
    #[n(10)]
    Scanned {
        #[n(0)]
        id: u64,
        #[n(1)]
        rows: Vec<Pair>,
        #[n(2)]
        more: bool,
        #[n(3)]
        failure: Option<Failed>,
        #[n(4)]
        #[cbor(default)]
        damaged: Vec<ByteVec>,
    },
    /// [`Input::Worked`]: the work that was handed out for this document, its `generation` being this, is done.
    #[n(11)]
    Worked {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
        #[n(2)]
        generation: u64,
    },
    /// [`Input::LocalChange`]: what `edit` did.
    #[n(12)]
    Edited {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
        #[n(2)]
        change: ByteVec,
    },
    /// An `edit` or `edit_at` that was refused or changed nothing.
    #[n(13)]
    NotEdited {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
    },
    /// `close`.
    #[n(14)]
    Closed {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
    },
    /// `new_document_id`.
    #[n(15)]
    NewDocumentId,
    /// `announce`.
    #[n(16)]
    Announced {
        #[n(0)]
        addresses: Vec<String>,
    },
    /// [`Input::LocalChange`] of a draft: all changes that it made, one after the other.
    #[n(17)]
    Published {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
        #[n(2)]
        changes: ByteVec,
    },
    /// [`Input::ListeningEnded`].
    #[n(18)]
    ListeningEnded {
        #[n(0)]
        address: String,
    },
    /// [`Input::StoreFailed`].
    #[n(19)]
    StoreFailed {
        #[n(0)]
        failure: Failed,
    },
    /// [`Input::DialPutOff`].
    #[n(20)]
    DialPutOff {
        #[n(0)]
        address: String,
        #[n(1)]
        reason: String,
    },
    /// [`Input::LocalChange`] of an editor: what `edit_at` did.
    #[n(21)]
    EditedAt {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
        #[n(2)]
        change: ByteVec,
    },
}

/// A [`Command`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "the variants and fields are those of `Command`")]
pub enum Asked {
    #[n(0)]
    CreateSpace {
        #[n(0)]
        name: String,
    },
    #[n(1)]
    Invite {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        role: u8,
        #[n(2)]
        max_uses: u32,
        #[n(3)]
        addresses: Vec<String>,
    },
    #[n(2)]
    Join {
        #[n(0)]
        ticket: String,
    },
    #[n(3)]
    LeaveSpace {
        #[n(0)]
        space: SpaceId,
    },
    #[n(4)]
    OpenDocument {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
    },
    #[n(5)]
    WaitSynced {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        peer: Option<DeviceId>,
    },
    #[n(6)]
    ReadFeed {
        #[n(0)]
        after: u64,
        #[n(1)]
        limit: u64,
    },
    #[n(7)]
    Dial {
        #[n(0)]
        address: String,
    },
    #[n(8)]
    Forget {
        #[n(0)]
        id: u64,
    },
    #[n(9)]
    Shutdown,
    #[n(10)]
    ForgetPeer {
        #[n(0)]
        peer: DeviceId,
    },
    #[n(11)]
    ForgetAddress {
        #[n(0)]
        address: String,
    },
    #[n(12)]
    CreateDocument {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        document: DocumentId,
        #[n(2)]
        empty: bool,
    },
    #[n(13)]
    NameDevice {
        #[n(0)]
        name: String,
    },
    #[n(14)]
    VoidEntry {
        #[n(0)]
        space: SpaceId,
        #[n(1)]
        entry: EntryHash,
    },
    #[n(15)]
    Block {
        #[n(0)]
        device: DeviceId,
    },
    #[n(16)]
    Unblock {
        #[n(0)]
        device: DeviceId,
    },
    #[n(17)]
    MeasureUsage {
        #[n(0)]
        space: SpaceId,
    },
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[allow(missing_docs, reason = "a row of a scan")]
pub struct Pair {
    #[n(0)]
    pub key: ByteVec,
    #[n(1)]
    pub value: ByteVec,
}

/// A [`Failure`] of the store.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "the variants are those of `Failure`")]
pub enum Failed {
    #[n(0)]
    Full(#[n(0)] String),
    #[n(1)]
    Damaged(#[n(0)] String),
    #[n(2)]
    Io(#[n(0)] String),
    #[n(3)]
    Gone(#[n(0)] String),
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Full(text) => Self::Full(text.clone()),
            Failure::Damaged(text) => Self::Damaged(text.clone()),
            Failure::Io(text) => Self::Io(text.clone()),
            Failure::Gone(text) => Self::Gone(text.clone()),
        }
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Full(text) => Self::Full(text),
            Failed::Damaged(text) => Self::Damaged(text),
            Failed::Io(text) => Self::Io(text),
            Failed::Gone(text) => Self::Gone(text),
        }
    }
}

impl From<&Input> for Call {
    fn from(input: &Input) -> Self {
        match input {
            Input::Command(id, command) => Self::Command { id: id.0, command: Asked::from(command) },
            Input::Timeout => Self::Timeout,
            Input::SessionOpened { session, peer, opener, address } => {
                Self::SessionOpened { session: session.0, peer: *peer, opener: *opener, address: address.clone() }
            }
            Input::Frame { session, bytes } => Self::Frame { session: session.0, bytes: bytes.clone().into() },
            Input::Written { session, bytes } => Self::Written { session: session.0, bytes: *bytes as u64 },
            Input::SessionClosed { session, reason } => {
                Self::SessionClosed { session: session.0, reason: reason.clone() }
            }
            Input::DialFailed { address, reason } => {
                Self::DialFailed { address: address.clone(), reason: reason.clone() }
            }
            Input::DialPutOff { address, reason } => {
                Self::DialPutOff { address: address.clone(), reason: reason.clone() }
            }
            Input::Listening { address } => Self::Listening { address: address.clone() },
            Input::ListeningEnded { address } => Self::ListeningEnded { address: address.clone() },
            Input::Hint { hint, from, topic, bytes } => {
                Self::Hint { hint: hint.0, from: *from, topic: topic.clone(), bytes: bytes.clone().into() }
            }
            Input::Stored(Reply::Committed { id, result }) => {
                Self::Committed { id: id.0, failure: result.as_ref().err().map(Failed::from) }
            }
            Input::Stored(Reply::Scanned { id, result }) => {
                let scanned = result.as_ref().ok();
                let pair =
                    |(key, value): &(Vec<u8>, Vec<u8>)| Pair { key: key.clone().into(), value: value.clone().into() };
                Self::Scanned {
                    id: id.0,
                    rows: scanned.map(|scanned| scanned.rows.iter().map(pair).collect()).unwrap_or_default(),
                    more: scanned.is_some_and(|scanned| scanned.more),
                    damaged: scanned.iter().flat_map(|scanned| &scanned.damaged).cloned().map(ByteVec::from).collect(),
                    failure: result.as_ref().err().map(Failed::from),
                }
            }
            Input::StoreFailed(failure) => Self::StoreFailed { failure: failure.into() },
            Input::Worked(done) => {
                Self::Worked { space: done.space, document: done.document, generation: done.generation }
            }
            Input::LocalChange { space, document, bytes, maker } => {
                let (space, document, change) = (*space, *document, bytes.clone().into());
                match maker {
                    Maker::Edit => Self::Edited { space, document, change },
                    Maker::Draft => Self::Published { space, document, changes: change },
                    Maker::Editor => Self::EditedAt { space, document, change },
                }
            }
        }
    }
}

impl Call {
    /// The input that was recorded; `None` if it is heavy work, whose result has to be computed, or no input.
    ///
    /// # Errors
    /// It holds a value that no input has.
    pub fn input(self) -> Result<Option<Input>, String> {
        Ok(Some(match self {
            Self::Command { id, command } => Input::Command(CommandId(id), command.command()?),
            Self::Timeout => Input::Timeout,
            Self::SessionOpened { session, peer, opener, address } => {
                Input::SessionOpened { session: SessionId(session), peer, opener, address }
            }
            Self::Frame { session, bytes } => Input::Frame { session: SessionId(session), bytes: bytes.into() },
            Self::Written { session, bytes } => Input::Written { session: SessionId(session), bytes: number(bytes)? },
            Self::SessionClosed { session, reason } => Input::SessionClosed { session: SessionId(session), reason },
            Self::DialFailed { address, reason } => Input::DialFailed { address, reason },
            Self::DialPutOff { address, reason } => Input::DialPutOff { address, reason },
            Self::Listening { address } => Input::Listening { address },
            Self::ListeningEnded { address } => Input::ListeningEnded { address },
            Self::Hint { hint, from, topic, bytes } => {
                Input::Hint { hint: HintId(hint), from, topic, bytes: bytes.into() }
            }
            Self::Committed { id, failure } => {
                let result = failure.map_or(Ok(()), |failed| Err(failed.into()));
                Input::Stored(Reply::Committed { id: CommitId(id), result })
            }
            Self::Scanned { id, rows, more, failure, damaged } => {
                let rows = rows.into_iter().map(|pair| (pair.key.into(), pair.value.into())).collect();
                let damaged = damaged.into_iter().map(Vec::from).collect();
                let result = failure.map_or(Ok(Scanned { rows, more, damaged }), |failed| Err(failed.into()));
                Input::Stored(Reply::Scanned { id: ScanId(id), result })
            }
            Self::StoreFailed { failure } => Input::StoreFailed(failure.into()),
            Self::Edited { space, document, change } => {
                Input::LocalChange { space, document, bytes: change.into(), maker: Maker::Edit }
            }
            Self::EditedAt { space, document, change } => {
                Input::LocalChange { space, document, bytes: change.into(), maker: Maker::Editor }
            }
            Self::Published { space, document, changes } => {
                Input::LocalChange { space, document, bytes: changes.into(), maker: Maker::Draft }
            }
            Self::Worked { .. }
            | Self::NotEdited { .. }
            | Self::Closed { .. }
            | Self::NewDocumentId
            | Self::Announced { .. } => return Ok(None),
        }))
    }
}

impl From<&Command> for Asked {
    fn from(command: &Command) -> Self {
        match command {
            Command::CreateSpace { name } => Self::CreateSpace { name: name.clone() },
            Command::Invite { space, role, max_uses, addresses } => {
                Self::Invite { space: *space, role: role.number(), max_uses: *max_uses, addresses: addresses.clone() }
            }
            Command::Join { ticket } => Self::Join { ticket: ticket.to_string() },
            Command::LeaveSpace { space } => Self::LeaveSpace { space: *space },
            Command::CreateDocument { space, document, begins } => {
                Self::CreateDocument { space: *space, document: *document, empty: *begins == Begins::Empty }
            }
            Command::OpenDocument { space, document } => Self::OpenDocument { space: *space, document: *document },
            Command::WaitSynced { space, peer } => Self::WaitSynced { space: *space, peer: *peer },
            Command::ReadFeed { after, limit } => Self::ReadFeed { after: *after, limit: *limit as u64 },
            Command::Dial { address } => Self::Dial { address: address.clone() },
            Command::ForgetPeer { peer } => Self::ForgetPeer { peer: *peer },
            Command::ForgetAddress { address } => Self::ForgetAddress { address: address.clone() },
            Command::NameDevice { name } => Self::NameDevice { name: name.clone() },
            Command::VoidEntry { space, entry } => Self::VoidEntry { space: *space, entry: *entry },
            Command::MeasureUsage { space } => Self::MeasureUsage { space: *space },
            Command::Block { device } => Self::Block { device: *device },
            Command::Unblock { device } => Self::Unblock { device: *device },
            Command::Forget(id) => Self::Forget { id: id.0 },
            Command::Shutdown => Self::Shutdown,
        }
    }
}

impl Asked {
    fn command(self) -> Result<Command, String> {
        Ok(match self {
            Self::CreateSpace { name } => Command::CreateSpace { name },
            Self::Invite { space, role, max_uses, addresses } => {
                let role = Role::from_number(role).ok_or_else(|| format!("role {role} is not known"))?;
                Command::Invite { space, role, max_uses, addresses }
            }
            Self::Join { ticket } => {
                Command::Join { ticket: ticket.parse().map_err(|error| format!("a ticket: {error}"))? }
            }
            Self::LeaveSpace { space } => Command::LeaveSpace { space },
            Self::CreateDocument { space, document, empty } => {
                let begins = if empty { Begins::Empty } else { Begins::WithFirstEdit };
                Command::CreateDocument { space, document, begins }
            }
            Self::OpenDocument { space, document } => Command::OpenDocument { space, document },
            Self::WaitSynced { space, peer } => Command::WaitSynced { space, peer },
            Self::ReadFeed { after, limit } => Command::ReadFeed { after, limit: number(limit)? },
            Self::Dial { address } => Command::Dial { address },
            Self::ForgetPeer { peer } => Command::ForgetPeer { peer },
            Self::ForgetAddress { address } => Command::ForgetAddress { address },
            Self::NameDevice { name } => Command::NameDevice { name },
            Self::VoidEntry { space, entry } => Command::VoidEntry { space, entry },
            Self::MeasureUsage { space } => Command::MeasureUsage { space },
            Self::Block { device } => Command::Block { device },
            Self::Unblock { device } => Command::Unblock { device },
            Self::Forget { id } => Command::Forget(CommandId(id)),
            Self::Shutdown => Command::Shutdown,
        })
    }
}

fn number(number: u64) -> Result<usize, String> {
    usize::try_from(number).map_err(|_| format!("{number} is more than this machine counts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::ticket::Ticket;
    use alloc::vec;

    #[test]
    fn every_input_but_work_is_read_as_it_was_written() {
        let (space, document, device) = (SpaceId([1; 32]), DocumentId([2; 16]), DeviceId([3; 32]));
        let session = SessionId(4);
        let ticket = Ticket {
            space,
            connection_key: [5; 32],
            invite_seed: [6; 32],
            role: Role::Writer,
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        };
        let invite = Command::Invite { space, role: Role::Reader, max_uses: 3, addresses: vec!["a".into()] };
        let commands = [
            Command::CreateSpace { name: "notes".into() },
            invite,
            Command::Join { ticket },
            Command::LeaveSpace { space },
            Command::OpenDocument { space, document },
            Command::CreateDocument { space, document, begins: Begins::Empty },
            Command::CreateDocument { space, document, begins: Begins::WithFirstEdit },
            Command::WaitSynced { space, peer: Some(device) },
            Command::ReadFeed { after: 7, limit: 8 },
            Command::Dial { address: "b".into() },
            Command::ForgetPeer { peer: device },
            Command::ForgetAddress { address: "b".into() },
            Command::NameDevice { name: "laptop".into() },
            Command::VoidEntry { space, entry: EntryHash([10; 32]) },
            Command::MeasureUsage { space },
            Command::Block { device },
            Command::Unblock { device },
            Command::Forget(CommandId(9)),
            Command::Shutdown,
        ];
        let mut inputs = vec![
            Input::Timeout,
            Input::SessionOpened { session, peer: device, opener: true, address: "c".into() },
            Input::Frame { session, bytes: vec![1, 2] },
            Input::Written { session, bytes: 10 },
            Input::SessionClosed { session, reason: "d".into() },
            Input::DialFailed { address: "e".into(), reason: "f".into() },
            Input::DialPutOff { address: "e".into(), reason: "f".into() },
            Input::Listening { address: "g".into() },
            Input::ListeningEnded { address: "g".into() },
            Input::Hint { hint: HintId(11), from: device, topic: "h".into(), bytes: vec![3] },
            Input::Stored(Reply::Committed { id: CommitId(12), result: Ok(()) }),
            Input::Stored(Reply::Committed { id: CommitId(12), result: Err(Failure::Full("i".into())) }),
            Input::Stored(Reply::Scanned { id: ScanId(13), result: Err(Failure::Damaged("j".into())) }),
            Input::Stored(Reply::Scanned {
                id: ScanId(13),
                result: Ok(Scanned { rows: vec![(vec![4], vec![5])], more: true, damaged: vec![vec![6]] }),
            }),
            Input::LocalChange { space, document, bytes: vec![6], maker: Maker::Edit },
            Input::LocalChange { space, document, bytes: vec![6, 7], maker: Maker::Draft },
            Input::LocalChange { space, document, bytes: vec![8], maker: Maker::Editor },
            Input::StoreFailed(Failure::Gone("k".into())),
        ];
        inputs.extend(commands.into_iter().map(|command| Input::Command(CommandId(1), command)));
        for input in inputs {
            let call = Call::from(&input);
            let read: Call = minicbor::decode(&minicbor::to_vec(&call).unwrap()).unwrap();
            let again = read.input().unwrap().unwrap();
            assert_eq!(format!("{again:?}"), format!("{input:?}"));
            assert!(Call::from(&again) == call, "{input:?}");
        }
    }

    #[test]
    fn values_that_no_input_has_are_refused() {
        let asked = |command| Call::Command { id: 1, command }.input().unwrap_err();
        let (space, addresses) = (SpaceId([1; 32]), Vec::new());
        assert_eq!(asked(Asked::Invite { space, role: 9, max_uses: 1, addresses }), "role 9 is not known");
        assert!(asked(Asked::Join { ticket: "x".into() }).starts_with("a ticket: "));
    }
}
