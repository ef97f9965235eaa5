//! Every limit and interval of the engine: what it bounds, its unit, where its number came from.

use crate::time::Duration;

// Frames and messages.

/// One frame on a session stream, its four-byte length not counted.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// One message of the control lane, put together from its frames and inflated. What a document with 20,000 actors is known by fits.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The same on the live lane, where no run is larger than `LIVE_BATCH_BYTES_MAX`.
pub const LIVE_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The same on the bulk lane. One run of the largest size and its envelope fit.
pub const BULK_MESSAGE_BYTES_MAX: usize = RUN_BYTES_MAX + 64 * 1024;
/// Bytes of large messages that all sessions together are putting together, as they were announced: four of the largest. A
/// message is large if it takes more credit than every session has; the sender of one that does not fit waits for credit. And
/// bytes of messages on the lanes without credit; the session that passes it is ended.
pub const ASSEMBLY_BYTES_MAX: usize = 4 * BULK_MESSAGE_BYTES_MAX;
/// How often larger than its compressed form a message may become (lz4 itself ends at about 255).
pub const INFLATE_RATIO_MAX: usize = 255;
/// A message of at least this many bytes is worth compressing. Guess.
pub const COMPRESS_BYTES_MIN: usize = 512;
/// What a stranger may send before it is authenticated.
pub const PRE_AUTH_BYTES_MAX: usize = 4 * 1024;
/// How long a stranger may take to authenticate.
pub const PRE_AUTH_TIME_MAX: Duration = Duration::from_secs(5);
/// A gossip hint. gossipsub itself carries 64 KiB.
pub const HINT_BYTES_MAX: usize = 1024;
/// Runs are collected into one message up to this size, so that most messages are one frame.
pub const RUNS_MESSAGE_BYTES: usize = 60 * 1024;
/// Fresh runs of more bytes than this are not sent along live lanes: comparing roots finds them.
pub const LIVE_BATCH_BYTES_MAX: usize = 128 * 1024;
/// Runs in one message.
pub const RUNS_PER_MESSAGE_MAX: usize = 1024;
/// Runs that one turn reads and checks: a millisecond, and eight where each makes a new document.
pub const RUNS_PER_TURN_MAX: usize = 8;
/// Items of a list in a message where each may be a single byte on the wire, and 24 or more in memory: `acl_ref`s, ranges,
/// addresses.
pub const LIST_ITEMS_MAX: usize = 1024;
/// The same of a list inside of such a list: the addresses of a device.
pub const INNER_LIST_ITEMS_MAX: usize = 64;
/// Tree nodes, items or frontiers in one message.
pub const RANGES_PER_MESSAGE_MAX: usize = 1024;

// Flow.

/// Bulk bytes on their way to one peer and not yet accepted by it. Small, so that a live edit is not stuck behind them.
pub const BULK_CREDIT_BYTES: u64 = 128 * 1024;
/// The receiver reports bulk bytes taken in whenever this many have come together.
pub const CREDIT_REPORT_BYTES: u64 = 32 * 1024;
/// Bytes handed to the network for one peer and not yet written; live runs beyond it are dropped and caught up later.
pub const OUTGOING_BYTES_MAX: usize = 1024 * 1024;
/// Runs that wait to be applied; beyond it nobody gets credit.
pub const INBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Documents queued for transfer to one peer; the rest is found again by the next reconciliation.
pub const TRANSFER_QUEUE_MAX: usize = 100_000;

/// Runs that a peer may send unasked, in the long run. Measured: checking one takes 64 us.
pub const LIVE_RUNS_PER_SECOND: u64 = 2_000;
/// And at once.
pub const LIVE_RUNS_BURST: u64 = 20_000;
/// Bytes that a peer may make us say about what we hold, in the long run: one of its own can ask for hundreds of ours.
pub const ANSWER_BYTES_PER_SECOND: u64 = 512 * 1024;
/// And at once. A million documents that differ need some 40 MB of answers.
pub const ANSWER_BYTES_BURST: u64 = 64 * 1024 * 1024;
/// Reconciliations that a peer may cause by telling ever other roots, in the long run.
pub const RECONCILIATIONS_PER_SECOND: u64 = 2;
/// And at once.
pub const RECONCILIATIONS_BURST: u64 = 60;

// Sessions and time.

/// A frame at least this often on an open session.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// A peer silent for this long is dead.
pub const DEAD_PEER_AFTER: Duration = Duration::from_secs(30);
/// Reconciliation that makes no progress for this long is torn down with its session.
pub const STALL_AFTER: Duration = Duration::from_secs(15);
/// Quiet before roots are compared after a change.
pub const ROOT_QUIET: Duration = Duration::from_secs(1);
/// The longest that a busy space puts off a comparison of roots.
pub const ROOT_QUIET_MAX: Duration = Duration::from_secs(5);
/// A space is hinted at most this often.
pub const HINT_INTERVAL: Duration = Duration::from_secs(2);
/// First wait before dialing again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait in the first ten minutes of an absence.
pub const BACKOFF_MAX_EARLY: Duration = Duration::from_secs(5);
/// Longest wait after that.
pub const BACKOFF_MAX_LATE: Duration = Duration::from_secs(60);
/// When the late backoff begins.
pub const BACKOFF_EARLY_FOR: Duration = Duration::from_secs(600);
/// A dial that has not answered counts as failed.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Dials under way at once: each is a socket for up to `DIAL_TIMEOUT`. Of a ticket all addresses are dialed at once, and of eight
/// spaces all sessions that they need begin with half of this.
pub const DIALS_MAX: usize = 32;
/// Of these, dials to addresses at which nobody was ever met: whoever makes up addresses that never answer leaves half of them
/// to the others.
pub const DIALS_UNPROVEN_MAX: usize = 16;
/// Dials begun, in the long run. A thousand members that are away are each looked for every two minutes, for a few ms a second.
pub const DIALS_PER_SECOND: u64 = 8;
/// And at once.
pub const DIALS_BURST: u64 = 64;
/// Seconds between two dials, in the long run, to all addresses in networks of ours of which only others have told: a member
/// could have us look for whatever there is.
pub const NEARBY_DIAL_EVERY_S: u64 = 60;
/// And at once: as many as `SESSIONS_PER_SPACE`.
pub const NEARBY_DIALS_BURST: u64 = 8;
/// An address that was not dialed for a limit of ours is dialed again after this long.
pub const PUT_OFF_FOR: Duration = Duration::from_secs(1);
/// Sessions at once.
pub const SESSIONS_MAX: usize = 256;
/// Of the sessions that others open, those with devices that are in no membership log of ours: half of the places that the network has
/// for connections of others. The other half is kept for members.
pub const GUEST_SESSIONS_MAX: usize = 96;
/// A session with who holds a ticket and has not become a member lasts this long. Joining takes some round trips, and what came of a
/// large log is not lost.
pub const GUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Sessions with processes of one device: it may have been copied. More copies than this are no accident.
pub const SESSIONS_PER_DEVICE: usize = 4;
/// A space with sessions enough dials one more member this often, and lets go of the last one.
pub const SCOUT_INTERVAL: Duration = Duration::from_secs(60);
/// Sessions that we dial for one space.
pub const SESSIONS_PER_SPACE: usize = 8;
/// Addresses remembered for one device.
pub const ADDRESSES_PER_DEVICE_MAX: usize = 8;
/// Characters of a text that a peer wrote for people: why it ends a session, or does not take a run.
pub const PEER_TEXT_CHARS_MAX: usize = 200;
/// Addresses remembered at which nobody was ever met, of all devices together: four for each of a thousand members.
pub const ADDRESSES_UNPROVEN_MAX: usize = 4 * MEMBERS_MAX;
/// Length of one address in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Addresses of this machine at which it can be reached. A host of many containers has one for each of their networks.
pub const LISTENING_MAX: usize = 64;
/// Own addresses have to stay as they are for this long before peers are told of a change.
pub const ADDRESSES_QUIET: Duration = Duration::from_secs(2);
/// A peer that says of itself where it is more often than this is not listened to, per second in the long run.
pub const OWN_ADDRESSES_PER_SECOND: u64 = 1;
/// And at once.
pub const OWN_ADDRESSES_BURST: u64 = 16;
/// The wall clock is this much ahead of the monotonic one: the machine slept. Peers take us for dead after `DEAD_PEER_AFTER`.
pub const SLEEP_MIN: Duration = Duration::from_secs(30);
/// A device's name.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;
/// A peer that changes its name more often than this is not listened to, per second in the long run.
pub const OWN_NAME_PER_SECOND: u64 = 1;
/// And at once.
pub const OWN_NAME_BURST: u64 = 16;
/// Seconds for which it is remembered that several processes acted as one device: a day.
pub const COPY_REMEMBERED_S: i64 = 86_400;
/// After sleep, or on another network, a peer has this long to show that its session is alive.
pub const CHECK_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Devices whose addresses are remembered, and dial targets given by the application.
pub const DEVICES_REMEMBERED_MAX: usize = 4096;

// Changes, runs, documents.

/// One automerge change, raw.
pub const CHANGE_BYTES_MAX: usize = 1024 * 1024;
/// Operations in one change, counted from its run-length headers before anything is allocated. A whole book chapter pasted
/// or imported is one change with an operation for each character, so it is not smaller. Measured: automerge takes 2.1 s and
/// 454 MiB for a million.
pub const CHANGE_OPS_MAX: u64 = 200_000;
/// Operations in one change beyond one for each of its bytes, but for deletions. What is typed or imported takes a byte each at
/// least; what is empty or is true, false or null takes none when it follows its like, and a hundred bytes can stand for
/// as many operations as there may be. A list of so many nulls is one edit all the same, and imports make pieces of half as
/// many.
pub const CHANGE_DENSE_OPS_MAX: u64 = 100_000;
/// Operations that the operations of one change say they replace, in all: with the values in conflict there may be several
/// for each.
pub const CHANGE_PREDECESSORS_MAX: u64 = 1_000_000;
/// Bytes of keys in one change after run-length decoding. A thousand bytes can stand for a gigabyte.
pub const CHANGE_EXPANDED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Greatest step of a counter, either way. A first value and `DOCUMENT_OPS_MAX` steps stay within 64 bits in all (automerge's
/// own addition panics beyond).
pub const COUNTER_STEP_MAX: u64 = 1 << 38;
/// Most that is added to a counter at once, either way: 1,024 steps, which take a millisecond. automerge goes through all steps of a
/// counter for one more, so that ten times as many take a hundred times as long.
pub const COUNTER_ADDITION_MAX: u64 = 1024 * COUNTER_STEP_MAX;
/// Greatest first value of a counter, either way: 8 PiB in bytes, and what a float holds exactly, as other programs read JSON.
pub const COUNTER_VALUE_MAX: u64 = 1 << 53;
const _: () = assert!(
    COUNTER_VALUE_MAX + COUNTER_STEP_MAX * DOCUMENT_OPS_MAX <= i64::MAX as u64,
    "counters are added up in 64 bits"
);
/// Changes in one run.
pub const RUN_CHANGES_MAX: u64 = 1_024;
/// Raw bytes of one run. Only a draft makes a large one: 10 MB of JSON with 100,000 strings, or 5 MB of it as texts, fit. With
/// its header it fits into 16 MiB, which is what redb's pages of a power of two have room for.
pub const RUN_BYTES_MAX: usize = 16 * 1024 * 1024 - 64 * 1024;
/// Raw bytes up to which changes that were made one by one share a run. One change of the largest size fits.
pub const RUN_SHARED_BYTES_MAX: usize = CHANGE_BYTES_MAX + 64 * 1024;
/// One string or byte value.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;
/// A map key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Dependencies of one change. Where a document has as many heads, an edit joins them first, with changes of its own.
pub const CHANGE_DEPS_MAX: usize = 1_024;
/// Greatest operation counter; automerge's own is 32 bits and panics at its end.
pub const OP_COUNTER_MAX: u64 = (1 << 31) - 1;
/// Operation counters that a change may leave out behind what it depends on. An edit at an older version is numbered behind all
/// that its replica holds, which is how automerge does it. Whoever wants to use up the counters of a document needs more than 2,000
/// changes; filling it with operations needs a hundred.
pub const COUNTER_GAP_MAX: u64 = 1_000_000;
/// Operations in one document.
pub const DOCUMENT_OPS_MAX: u64 = 10_000_000;
/// Values of one document that were replaced or deleted, counted once for each operation that did it. An operation may
/// replace many values, and each is remembered, in some 20 bytes.
pub const DOCUMENT_REPLACEMENTS_MAX: u64 = 20_000_000;
/// Actors in one document. The document's record names each, in some 195 bytes, and is written with every commit: 4 MB then.
/// `bench actors` measures it.
pub const DOCUMENT_ACTORS_MAX: usize = 20_000;
/// Of these, actors of one device: one for each process that wrote in the document, and for each editor that could not go on under
/// one. An application that is started 30 times a
/// day comes to as many in eleven months; without it one device could fill a document for all.
pub const DOCUMENT_ACTORS_PER_DEVICE_MAX: usize = 10_000;
/// Editors of one document at the same time: tabs, and remote clients. Each that has edited has an actor in the document.
pub const EDITORS_PER_DOCUMENT_MAX: usize = 256;
/// Editors of all documents of one replica.
pub const EDITORS_MAX: usize = 4_096;
/// A document's name, in lists. A longer one is cut there; file systems allow as much.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 255;
/// Nesting of one JSON value.
pub const DEPTH_MAX: usize = 64;
/// Runs of one document that wait for runs they depend on.
pub const ORPHANS_PER_DOCUMENT_MAX: usize = 1_024;
/// Bytes of one document's waiting runs. A draft that is here before what it was made on fits, with some others.
pub const ORPHAN_BYTES_PER_DOCUMENT_MAX: usize = RUN_BYTES_MAX + 4 * 1024 * 1024;
/// A run that has waited this long for what it depends on is given up. If that exists anywhere, comparing roots finds both
/// again.
pub const ORPHAN_AGE_MAX: Duration = Duration::from_secs(600);
/// Bytes of all waiting runs of one replica.
pub const ORPHAN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Local changes of one document that wait to be signed, which happens with every commit; more are refused until the disk
/// has caught up. For a draft those of all documents count, and what waits for the next commit.
pub const UNSIGNED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A run is held guilty when this many processes in a row have died while they merged it alone. Few may be chance: a process
/// that is killed is merging something, and one that is killed soon after its start is merging what the last one was. Seen:
/// three in a row, of two runs in 1,500, with a replica that was killed 20 times within a few seconds while it caught up.
pub const DEATHS_UNTIL_POISONED: u8 = 5;
/// Runs remembered because they broke the merge.
pub const POISONED_MAX: usize = 1_024;
/// Devices that are blocked here. Each is a row of some 40 bytes.
pub const BLOCKED_MAX: usize = MEMBERS_MAX;
/// Chains of blocked devices that one peer is not asked for again. Chains beyond the limit are fetched with every comparison. Some
/// 120 bytes each.
pub const LEFT_OUT_MAX: usize = 4_096;
/// Tips of runs that broke the merge, remembered for one document while it is in memory.
pub const POISONED_REMEMBERED_MAX: usize = 1_024;
/// A merge into a document with more operations than this is handed to a worker. Measured: applying costs about 0.1 us
/// for each operation held, so below it a turn stays under a millisecond.
pub const INLINE_OPS_MAX: u64 = 5_000;
/// A batch of more bytes than this is handed to a worker.
pub const INLINE_BATCH_BYTES_MAX: usize = 32 * 1024;
/// And one with more operations than this: a hundred bytes can stand for a hundred thousand. Measured: each takes 2 to 4 us to
/// judge and to apply, so below it a turn stays under some milliseconds.
pub const INLINE_BATCH_OPS_MAX: u64 = 1_000;
/// Operations that are applied at once, of all documents that workers have under way: a document has as many as it holds or gets, at
/// most those of the largest change. Measured: each takes some 590 bytes meanwhile, so all together 300 MB.
pub const WORK_OPS_MAX: u64 = 500_000;
/// Documents under way at a time to be rebuilt from what is readable of them. Each is read whole, like one that is opened.
pub const MENDING_MAX: usize = 8;
/// Documents in memory of which nothing is stored yet: new ones, and ones whose first runs wait for others. An empty
/// automerge document takes some 17 KiB.
pub const DOCUMENTS_UNRECORDED_MAX: usize = 4_096;
/// Of these, documents of which there are only waiting runs that one device has signed. Honest ones come in order, so there
/// are hardly any; without it one member could use up `DOCUMENTS_UNRECORDED_MAX` and keep new documents out.
pub const DOCUMENTS_UNRECORDED_PER_DEVICE_MAX: usize = 256;
/// Documents of which it is remembered what a peer was sent last, for one session and space.
pub const SERVED_REMEMBERED_MAX: usize = 4_096;
/// Documents of one space that are remembered as forked.
pub const FORKS_REMEMBERED_MAX: usize = 1_024;
/// Documents that a peer is not sent again because it refused them as they are, for one session and space.
pub const REFUSED_REMEMBERED_MAX: usize = 4_096;
/// Changes of one document that are kept as patches for those who follow it. Who is further behind compares versions. Guess.
pub const JOURNAL_STEPS_MAX: usize = 1_024;
/// Bytes of these patches. Comparing costs less than so many.
pub const JOURNAL_BYTES_MAX: usize = 1024 * 1024;
/// Documents kept in memory that nobody holds open.
pub const DOCUMENTS_RESIDENT_MAX: usize = 256;
/// Documents that this process has written in and that have left memory, of which it is remembered under which actor. In others
/// it goes on under a fresh one. Some 250 bytes each.
pub const WRITERS_REMEMBERED_MAX: usize = 100_000;

// Spaces and members.

/// Spaces of one replica.
pub const SPACES_MAX: usize = 100;
/// Documents of one space.
pub const DOCUMENTS_PER_SPACE_MAX: usize = 1_000_000;
/// A space's name.
pub const SPACE_NAME_BYTES_MAX: usize = 128;
/// One membership entry.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024;
/// Membership entries in one message. They are checked in one turn, at up to 0.25 ms each.
pub const ENTRIES_PER_MESSAGE_MAX: usize = 16;
/// Entries of one membership log.
pub const ENTRIES_PER_SPACE_MAX: usize = 100_000;
/// Entries of one log that are kept for admins.
pub const ENTRIES_RESERVED: usize = 10_000;
/// Entries of one log that a device may have signed which is no admin. It signs one for each device that it lets in: without
/// the limit a single member could fill the log for all.
pub const ENTRIES_PER_DEVICE_MAX: usize = 4_096;
/// Entries a second that are of no use here, of one session and in the long run. Several peers bring the same, so some are.
pub const USELESS_ENTRIES_PER_SECOND: u64 = 500;
/// And at once: two peers bring a whole log each. Beyond it the session's entries are skipped, and found missing later.
pub const USELESS_ENTRIES_BURST: u64 = 100_000;
/// Entries that are malformed or badly signed, and runs that are badly signed, after which a session ends. Honest peers have checked
/// what they pass on.
pub const BADLY_SIGNED_MAX: usize = 8;
/// A device that misbehaved waits this long for its next session, and twice as long each time.
pub const OFFENCE_WAIT_MIN: Duration = Duration::from_secs(1);
/// At most.
pub const OFFENCE_WAIT_MAX: Duration = Duration::from_secs(120);
/// After this long it begins with the shortest wait.
pub const OFFENCE_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Devices that are remembered as having misbehaved.
pub const OFFENDERS_REMEMBERED_MAX: usize = 1_024;
/// Members of one space.
pub const MEMBERS_MAX: usize = 1_000;
/// Earlier entries that one entry may name.
pub const ENTRY_PREV_MAX: usize = 16;
/// Entries in one `acl_ref`.
pub const ACL_REF_ENTRIES_MAX: usize = 64;
/// Uses that one invite may allow.
pub const INVITE_USES_MAX: u32 = 100;
/// Addresses in one ticket.
pub const TICKET_ADDRESSES_MAX: usize = 4;
/// Addresses of further tickets that a member keeps for one space until it has met a member there, the latest first: those of
/// four tickets.
pub const TOLD_ADDRESSES_MAX: usize = 16;

// Storage.

/// Greatest number of starts of a store, and in its feed, that is read. Nobody counts that far: what says so is damaged. Half
/// of what there is, so that whoever goes on counting from a number that was read does not come to the end.
pub const COUNTED_MAX: u64 = 1 << 63;

/// Bytes of rows that wait for the next commit; beyond it no credit is given, and live runs are dropped. A draft may be larger.
pub const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What could not be written because the disk was full is tried again after this long, then after twice as long each time,
pub const STORE_RETRY_MIN: Duration = Duration::from_secs(1);
/// and at least this often. Guess: somebody who has made room watches for about as long.
pub const STORE_RETRY_MAX: Duration = Duration::from_secs(10);
/// Bytes of rows in one scan reply.
pub const SCAN_BYTES: usize = 1024 * 1024;
/// One record of a recording: a scan's reply with its last row, which may be a large run, with room to spare.
pub const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Rows of the feed in one page.
pub const FEED_PAGE_MAX: usize = 1_000;
/// Commands of the application that wait for an answer.
pub const COMMANDS_PENDING_MAX: usize = 10_000;
