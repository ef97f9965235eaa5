//! Catch-up: which documents differ, what each side lacks of them, the runs. And the live lane, which only saves waiting.

use alloc::collections::BTreeSet;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use tracing::debug;

use crate::document::record::DocumentRecord;
use crate::engine::Engine;
use crate::engine::documents::DocumentKey;
use crate::engine::input::SessionId;
use crate::engine::output::Event;
use crate::engine::said::said;
use crate::engine::scans::Scan;
use crate::gate::{self, Refusal};
use crate::id::{AclHash, ActorId, ChangeHash, DeviceId, DocumentId, EntryHash, SpaceId};
use crate::limits::{
    ACL_REF_ENTRIES_MAX, COMMIT_BYTES_MAX, FORKS_REMEMBERED_MAX, INBOX_BYTES_MAX, LIVE_RUNS_BURST,
    LIVE_RUNS_PER_SECOND, RANGES_PER_MESSAGE_MAX, RUNS_MESSAGE_BYTES, RUNS_PER_MESSAGE_MAX,
};
use crate::mutants::Mutant;
use crate::run::{Run, RunHeader};
use crate::space::roles::Role;
use crate::space::{Acl, Fork};
use crate::storage::{Scanned, Table, document_key, parse_run_key, prefix_end};
use crate::sync::rate::Allowance;
use crate::sync::reconcile::{Differences, Reconciler, are_apart};
use crate::sync::session::Serving;
use crate::sync::transfer::{self, Job, compare, tips, wire_bytes};
use crate::wire::{DocumentFrontier, Lane, Level, Message, Node, Range, RefusalCode, SpaceIndex, WireRun};

const LIVE_RUNS: Allowance = Allowance { per_second: LIVE_RUNS_PER_SECOND, burst: LIVE_RUNS_BURST };
/// Bytes of runs read at a time for a peer.
const TRANSFER_SCAN_BYTES: usize = 2 * RUNS_MESSAGE_BYTES;
/// Frontiers of about this many bytes go into one message.
const FRONTIERS_MESSAGE_BYTES: usize = 48 * 1024;

impl Engine {
    pub(super) fn heard_nodes(&mut self, id: SessionId, index: SpaceIndex, level: Level, nodes: &[Node]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (peer, salt) = (session.peer, session.salt);
        let Some(space) = session.shared_at(index).and_then(|shared| self.spaces.get_mut(&shared.space)) else {
            return;
        };
        let collection = match level {
            Level::Members => &mut space.entries,
            Level::Documents if space.membership.role(&peer).is_some() => &mut space.documents,
            Level::Documents => return,
        };
        if nodes.len() > RANGES_PER_MESSAGE_MAX || !are_apart(nodes.iter().map(|node| node.prefix)) {
            return self.misbehaved(id, "ranges that overlap, or too many");
        }
        let messages = Reconciler { collection, salt: &salt, space: index, level }.nodes(nodes);
        self.counters.ranges_compared += nodes.len() as u64;
        messages.iter().for_each(|message| self.say(id, message));
    }

    pub(super) fn heard_items(&mut self, id: SessionId, index: SpaceIndex, level: Level, ranges: &[Range]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (peer, salt) = (session.peer, session.salt);
        let Some(space) = session.shared_at(index).and_then(|shared| self.spaces.get_mut(&shared.space)) else {
            return;
        };
        if ranges.len() > RANGES_PER_MESSAGE_MAX || !are_apart(ranges.iter().map(|range| range.prefix)) {
            return self.misbehaved(id, "ranges that overlap, or too many");
        }
        match level {
            Level::Members => {
                let collection = &mut space.entries;
                let differences = Reconciler { collection, salt: &salt, space: index, level }.items(ranges);
                self.exchange_entries(id, index, differences);
            }
            Level::Documents if space.membership.role(&peer).is_some() => {
                let collection = &mut space.documents;
                let differences = Reconciler { collection, salt: &salt, space: index, level }.items(ranges);
                self.exchange_frontiers(id, index, differences);
            }
            Level::Documents => {}
        }
    }

    /// Sends what the peer has nothing of, asks for what we have nothing of, shows what we have of the rest.
    fn exchange_frontiers(&mut self, id: SessionId, index: SpaceIndex, differences: Differences) {
        let Some((space_id, _)) = self.shared_space(id, index) else { return };
        let Some(space) = self.spaces.get(&space_id) else { return };
        let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index)) else { return };
        let mut frontiers = Vec::new();
        // What cannot be written is not asked for.
        let takes = self.halted.is_none();
        for key in differences.missing_here.into_iter().filter(|_| takes) {
            let document = DocumentId(key);
            let actors = shared.left_out.shown(&document, &DocumentRecord::default());
            frontiers.push(DocumentFrontier { document, actors, reply: false });
        }
        for key in differences.differing {
            let document = DocumentId(key);
            if let Some(record) = space.records.signed(&document) {
                let actors = shared.left_out.shown(&document, &record);
                frontiers.push(DocumentFrontier { document, actors, reply: true });
            }
        }
        for key in differences.missing_there {
            let document = DocumentId(key);
            if space.documents.get(&key).is_some_and(|digest| !shared.takes(&document, &digest)) {
                continue;
            }
            if shared.wants_to_be_asked(&document) {
                let actors = space.records.signed(&document).map(|record| tips(&record)).unwrap_or_default();
                frontiers.push(DocumentFrontier { document, actors, reply: true });
                continue;
            }
            // Where there is no place for it, the next comparison finds it missing.
            _ = shared.transfer.want(document, Job::everything());
        }
        self.say_frontiers(id, index, frontiers);
        self.to_pump.insert(id);
    }

    fn say_frontiers(&mut self, id: SessionId, index: SpaceIndex, frontiers: Vec<DocumentFrontier>) {
        let mut documents = Vec::new();
        let mut bytes = 0;
        for frontier in frontiers {
            bytes += 24 + 61 * frontier.actors.len();
            documents.push(frontier);
            if bytes > FRONTIERS_MESSAGE_BYTES || documents.len() >= RANGES_PER_MESSAGE_MAX {
                bytes = 0;
                self.say(id, &Message::Frontiers { space: index, documents: core::mem::take(&mut documents) });
            }
        }
        if !documents.is_empty() {
            self.say(id, &Message::Frontiers { space: index, documents });
        }
    }

    pub(super) fn heard_frontiers(&mut self, id: SessionId, index: SpaceIndex, documents: &[DocumentFrontier]) {
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        let Some(space) = self.spaces.get(&space_id) else { return };
        if space.membership.role(&peer).is_none() {
            return;
        }
        let distinct: BTreeSet<DocumentId> = documents.iter().map(|theirs| theirs.document).collect();
        if documents.len() > RANGES_PER_MESSAGE_MAX || distinct.len() < documents.len() {
            return self.misbehaved(id, "a document twice, or too many");
        }
        let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index)) else { return };
        let mut answers = Vec::new();
        let mut forks = Vec::new();
        for theirs in documents {
            let ours = space.records.signed(&theirs.document).unwrap_or_default();
            let digest = space.documents.get(&theirs.document.0);
            let shown = transfer::digest(&theirs.actors);
            let serving = digest.map_or(Serving::First, |ours| shared.serving(theirs.document, ours, shown));
            let forked = shared.forks_of(theirs.document).collect();
            let comparison = compare(&ours, &theirs.actors, serving == Serving::Again, forked);
            if let Some(job) = comparison.job
                && digest.is_none_or(|digest| shared.takes(&theirs.document, &digest))
                && (serving == Serving::Later || shared.transfer.want(theirs.document, job))
                && let Some(ours) = digest
            {
                shared.served(theirs.document, ours, shown);
            }
            if let Some(fork) = comparison.fork {
                forks.push((theirs.document, fork));
            }
            let lacks = comparison.behind && !shared.left_out.covers(&theirs.document, &ours, &theirs.actors);
            if theirs.reply && lacks && self.halted.is_none() {
                let actors = shared.left_out.shown(&theirs.document, &ours);
                answers.push(DocumentFrontier { document: theirs.document, actors, reply: false });
            }
        }
        for (document, (actor, seq)) in forks {
            self.fork_found(id, (space_id, document), actor, seq);
        }
        self.say_frontiers(id, index, answers);
        self.to_pump.insert(id);
    }

    /// Reads and sends what a peer lacks, as fast as it takes it in.
    pub(super) fn pump(&mut self, id: SessionId) {
        self.pump_entries(id);
        // A message at a time: the next one is made when this one is on its way.
        while let Some((index, space, runs)) = self.next_message(id) {
            self.say_runs(id, Lane::Bulk, index, &space, runs);
            self.flush(id);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut scans = Vec::new();
        for shared in &mut session.shared {
            while let Some((document, job)) = shared.transfer.next_scan() {
                scans.push(((shared.space, document), job));
            }
        }
        for (key, job) in scans {
            let prefix = document_key(&key.0, &key.1);
            let to = prefix_end(&prefix);
            let start = || [&prefix[..], &job.from_lamport.to_be_bytes()].concat();
            let from = job.resume_at.clone().unwrap_or_else(start);
            self.scan(Scan::Transfer { session: id, key, job }, Table::Runs, from, to, TRANSFER_SCAN_BYTES);
        }
    }

    fn next_message(&mut self, id: SessionId) -> Option<(SpaceIndex, SpaceId, Vec<WireRun>)> {
        let session = self.sessions.get_mut(&id)?;
        if session.lanes.is_congested() {
            return None;
        }
        session.shared.iter_mut().enumerate().find_map(|(index, shared)| {
            let runs = shared.transfer.take_message()?;
            Some((index as SpaceIndex, shared.space, runs))
        })
    }

    /// What a peer lacks of a document cannot be read.
    pub(super) fn transfer_ended(&mut self, id: SessionId, key: &DocumentKey) {
        if let Some((_, shared)) = self.sessions.get_mut(&id).and_then(|session| session.shared_in(&key.0)) {
            shared.transfer.scan_done(None);
        }
        self.to_pump.insert(id);
    }

    /// A page of what a peer lacks was read.
    pub(super) fn scanned_transfer(&mut self, id: SessionId, key: DocumentKey, mut job: Job, scanned: Scanned) {
        let device = self.device;
        let Some((_, shared)) = self.sessions.get_mut(&id).and_then(|session| session.shared_in(&key.0)) else {
            return;
        };
        let record = self.spaces.get(&key.0).and_then(|space| space.records.signed(&key.1));
        let (mut runs, mut forks) = (Vec::new(), Vec::new());
        let last = scanned.rows.last().filter(|_| scanned.more).map(|(last, _)| [last.as_slice(), &[0]].concat());
        for (row, value) in scanned.rows {
            let Some(at) = parse_run_key(&row) else { continue };
            if record.as_ref().is_none_or(|record| !record.names(&at.actor, at.last_seq)) {
                continue;
            }
            let held = job.have.get(&at.actor).copied();
            if held.is_some_and(|held| held.seq > at.last_seq) || job.forked.contains(&at.actor) {
                continue;
            }
            match Run::from_stored(at.space, at.document, at.actor, at.last_seq, value) {
                Ok(run) => {
                    if let Some(held) = held
                        && hash_at(&run, held.seq).is_some_and(|ours| ours != held.tip)
                    {
                        job.forked.insert(at.actor);
                        forks.push((at.actor, held.seq));
                    } else if held.is_none_or(|held| held.seq < at.last_seq) {
                        runs.push((row, run));
                    }
                }
                Err(error) => {
                    shared.transfer.scan_done(None);
                    return self.mend_document(key, &error.to_string());
                }
            }
        }
        let more = last.map(|last| (key.1, Job { resume_at: Some(last), ..job }));
        let runs: Vec<_> = runs.into_iter().map(|(row, run)| wire_run(&device, self.sign_again(&row, run))).collect();
        if let Some((_, shared)) = self.sessions.get_mut(&id).and_then(|session| session.shared_in(&key.0)) {
            runs.into_iter().for_each(|run| shared.transfer.stage(run));
            shared.transfer.scan_done(more);
        }
        self.to_pump.insert(id);
        for (actor, seq) in forks {
            self.fork_found(id, key, actor, seq);
        }
    }

    /// The peer has another change under a number that is taken here. On this document the two cannot agree: it is named on
    /// both sides, and not sent again as it is.
    fn fork_found(&mut self, id: SessionId, key: DocumentKey, actor: ActorId, seq: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let peer = session.peer;
        let Some((index, shared)) = session.shared_in(&key.0) else { return };
        if !shared.fork(key.1, actor) {
            return;
        }
        let detail = Refusal::Fork { actor: actor.to_string(), seq }.to_string();
        let code = RefusalCode::Fork;
        self.say(id, &Message::Refused { space: index, document: key.1, actor, first_seq: seq, code, detail });
        self.note_fork(key, peer, Fork { actor, seq, is_seen: false });
    }

    /// Says, and remembers, that a document has two histories. What was seen here takes the place of what others say, which
    /// fills no more than half of the table.
    pub(super) fn note_fork(&mut self, key: DocumentKey, peer: DeviceId, fork: Fork) {
        let Some(space) = self.spaces.get_mut(&key.0) else { return };
        match space.forks.get(&key.1) {
            Some(known) if known.is_seen || !fork.is_seen => return,
            Some(_) | None => {
                let alike = space.forks.values().filter(|known| known.is_seen == fork.is_seen).count();
                if alike >= FORKS_REMEMBERED_MAX / 2 {
                    return;
                }
            }
        }
        space.forks.insert(key.1, fork);
        debug!(document = %key.1, %peer, actor = %fork.actor, seq = fork.seq, "the document is forked");
        self.event(Event::DocumentForked { space: key.0, document: key.1, peer, fork });
    }

    /// Sends runs, with the `acl_ref`s that the peer does not know yet on this lane.
    fn say_runs(&mut self, id: SessionId, lane: Lane, index: SpaceIndex, space: &SpaceId, runs: Vec<WireRun>) {
        let (Some(session), Some(space)) = (self.sessions.get_mut(&id), self.spaces.get(space)) else { return };
        let Some(shared) = session.shared_at(index) else { return };
        let mut acls = Vec::<&Acl>::new();
        for run in &runs {
            if let Some(acl) = space.acl(&run.acl)
                && !shared.knows_acl(lane, &run.acl)
                && !acls.contains(&acl)
            {
                acls.push(acl);
            }
        }
        let told: Vec<AclHash> = acls.iter().map(|acl| acl.hash).collect();
        let acls = acls.into_iter().map(|acl| acl.entries.clone()).collect();
        if self.say_on(id, lane, Message::Runs { space: index, acls, runs })
            && let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index))
        {
            told.into_iter().for_each(|acl| shared.told_acl(lane, acl));
        }
    }

    /// Sends fresh runs along the live lanes of every session that did not bring them. Much at once is no news to hurry with:
    /// it is found by comparing roots, and sent for credit.
    pub(super) fn forward(&mut self, space_id: &SpaceId, runs: Vec<(Option<SessionId>, Run)>) {
        let Some(space) = self.spaces.get(space_id) else { return };
        let mut sends = Vec::new();
        for (id, session) in &mut self.sessions {
            let peer = session.peer;
            if !session.is_open() || space.membership.role(&peer).is_none() {
                continue;
            }
            let Some((index, shared)) = session.shared_in(space_id) else { continue };
            // A peer that is being caught up, or was never compared with, gets them in order from there.
            if shared.heard.is_none_or(|heard| heard.1.is_none()) {
                continue;
            }
            let wire: Vec<WireRun> = runs
                .iter()
                .filter(|(origin, run)| *origin != Some(*id) && run.header.device != peer)
                .map(|(_, run)| wire_run(&self.device, run.clone()))
                .collect();
            if !wire.is_empty() {
                sends.push((*id, index, wire));
            }
        }
        for (id, index, wire) in sends {
            let mut rest = wire.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut message, mut bytes) = (Vec::new(), 0);
                while let Some(run) = rest.next_if(|run| {
                    message.is_empty()
                        || (message.len() < RUNS_PER_MESSAGE_MAX && bytes + wire_bytes(run) <= RUNS_MESSAGE_BYTES)
                }) {
                    bytes += wire_bytes(&run);
                    message.push(run);
                }
                self.say_runs(id, Lane::Live, index, space_id, message);
            }
        }
    }

    pub(super) fn heard_runs(
        &mut self,
        id: SessionId,
        lane: Lane,
        index: SpaceIndex,
        acls: Vec<Vec<EntryHash>>,
        runs: Vec<WireRun>,
    ) {
        let Some((space_id, peer)) = self.shared_space(id, index) else { return };
        debug!(%peer, ?lane, runs = runs.len(), "runs arrived");
        if self.halted.is_some() {
            // They cannot be kept, and no credit is given for them. The peer is asked when they can be.
            return;
        }
        // Bulk is held back by credit; live runs that nobody asked for are dropped instead, and caught up with later.
        let now = self.now.mono;
        let unasked = self.sessions.get_mut(&id).filter(|_| lane != Lane::Bulk).is_some_and(|session| {
            let too_many = !session.live_runs.has_left(now, LIVE_RUNS);
            session.live_runs.spend(runs.len() as u64, now, LIVE_RUNS);
            too_many
        });
        let busy = lane != Lane::Bulk
            && (self.documents.inbox_bytes() > INBOX_BYTES_MAX || self.commits.bytes() > COMMIT_BYTES_MAX);
        if unasked || busy {
            return self.space_changed(&space_id);
        }
        if let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index)) {
            for entries in acls.into_iter().take(RUNS_PER_MESSAGE_MAX) {
                if entries.len() <= ACL_REF_ENTRIES_MAX {
                    shared.heard_acl(Acl::new(entries));
                }
            }
        }
        let is_member = self.spaces.get(&space_id).is_some_and(|space| space.membership.role(&peer).is_some());
        // A peer that is no member is told so once for each message.
        let some = if is_member { RUNS_PER_MESSAGE_MAX } else { 1 };
        self.unread.add(id, lane, space_id, runs.into_iter().take(some).collect());
    }

    pub(super) fn heard_run(&mut self, id: SessionId, space_id: SpaceId, wire: WireRun) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let peer = session.peer;
        let Some(space) = self.spaces.get(&space_id) else { return };
        let device = wire.device.unwrap_or(peer);
        let mut header = RunHeader {
            space: space_id,
            document: wire.document,
            acl: wire.acl,
            device,
            actor: wire.actor,
            first_seq: wire.first_seq,
            last_seq: wire.first_seq,
            tip: ChangeHash([0; 32]),
            signature: *wire.signature,
        };
        if !space.is_admitted() || space.membership.role(&peer).is_none() {
            _ = self.answer_refusal(id, &header, RefusalCode::NotAMember, "not a member of the space");
            return;
        }
        let payload = match gate::Payload::read(wire.payload.into()) {
            Ok(payload) => payload,
            Err(refusal) => return self.refuse(id, &header, &refusal),
        };
        self.tolls.of(peer).checks += 1;
        header.last_seq = payload.tip().last_seq;
        header.tip = payload.tip().tip;
        let heard = session.shared_in(&space_id).and_then(|(_, shared)| shared.acl(&wire.acl)).cloned();
        let acl = heard.or_else(|| space.acl(&wire.acl).cloned());
        let mut authority = acl.as_ref().and_then(|acl| space.membership.authority(&acl.entries, &device));
        if self.mutated.by(Mutant::SkipsRoleCheck) {
            authority = authority.map(|_| gate::Authority { role: Some(Role::Writer) });
        }
        let (Some(acl), Some(authority)) = (acl, authority) else {
            debug!(%peer, document = %wire.document, "a run that stands on members unknown here");
            if let Some((_, shared)) = session.shared_in(&space_id) {
                shared.roots_changed(self.now.mono);
            }
            _ = self.answer_refusal(id, &header, RefusalCode::MembersUnknown, "members unknown");
            return;
        };
        self.receive_run(id, header, payload, &acl, authority);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn heard_refused(
        &mut self,
        id: SessionId,
        index: SpaceIndex,
        document: DocumentId,
        actor: ActorId,
        first_seq: u64,
        code: RefusalCode,
        detail: &str,
    ) {
        let now = self.now.mono;
        let Some((space, peer)) = self.shared_space(id, index) else { return };
        let reason = said(detail);
        debug!(%peer, %document, %actor, first_seq, ?code, reason, "the peer refused a run");
        let Some(shared) = self.sessions.get_mut(&id).and_then(|session| session.shared_at(index)) else { return };
        match code {
            // It says so until the members are reconciled; then the runs are found missing and sent again.
            RefusalCode::MembersUnknown | RefusalCode::NotAMember => {
                shared.forget_told_acls();
                shared.roots_changed(now);
            }
            RefusalCode::NotWanted => {
                let is_stored = self.spaces.get(&space).is_some_and(|space| space.records.has(&document));
                if is_stored || self.documents.contains(&(space, document)) {
                    shared.ask_first(document);
                }
            }
            RefusalCode::NotAWriter
            | RefusalCode::BadSignature
            | RefusalCode::Malformed
            | RefusalCode::TooLarge
            | RefusalCode::Misfit
            | RefusalCode::Fork
            | RefusalCode::Poisoned => {
                let known = self.spaces.get(&space).filter(|space| space.membership.role(&peer).is_some());
                let digest = known.and_then(|space| space.documents.get(&document.0));
                let is_here = digest.is_some() || self.documents.contains(&(space, document));
                if known.is_none() || !is_here {
                    return;
                }
                if code == RefusalCode::Fork {
                    shared.fork(document, actor);
                    self.note_fork((space, document), peer, Fork { actor, seq: first_seq, is_seen: false });
                } else if let Some(digest) = digest {
                    shared.refused(document, digest);
                }
                self.event(Event::RunRefused { space, document, peer, by_us: false, reason });
            }
        }
    }
}

/// The hash of a run's change with this number, if it has one.
fn hash_at(run: &Run, seq: u64) -> Option<ChangeHash> {
    if seq == run.header.last_seq {
        return Some(run.header.tip);
    }
    gate::chunks(&run.payload).filter_map(Result::ok).find(|chunk| chunk.seq == seq).map(|chunk| chunk.hash)
}

fn wire_run(us: &DeviceId, run: Run) -> WireRun {
    let Run { header, payload } = run;
    WireRun {
        document: header.document,
        actor: header.actor,
        first_seq: header.first_seq,
        acl: header.acl,
        signature: header.signature.into(),
        payload: payload.into(),
        device: (header.device != *us).then_some(header.device),
    }
}
