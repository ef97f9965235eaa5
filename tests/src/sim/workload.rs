//! What applications do: found spaces, invite and join, open, edit, close and read documents, wait, read the feed. They keep
//! in mind what they were promised and check each answer.

use std::collections::BTreeMap;

use anabranch_engine::document::Edit;
use anabranch_engine::document::import::Rules;
use anabranch_engine::feed::FeedRow;
use anabranch_engine::id::{DeviceId, DocumentId, SpaceId};
use anabranch_engine::storage::CommitId;
use anabranch_engine::{Begins, Command, CommandError, CommandId, DocumentError, Engine, Reply};
use anabranch_store::backend::crashable::Fault;
use serde_json::json;

use super::checkers::{acknowledged, actors, authorised, history, sessions};
use super::dice::Dice;
use super::ledger::{Edited, Place, Wrote};
use super::options::Tamper;
use super::plan::{Act, Crash};
use super::world::{Happening, World};
use super::{Kind, MILLIS, SECONDS};

mod drafts;
mod editors;
mod goals;

pub use drafts::UnderWay;
pub use editors::Tab;
pub use goals::Space;

/// What an application waits for.
#[derive(Debug, Clone)]
pub enum Waiting {
    /// The answer is of no interest.
    ForNothing,
    /// A space to be founded.
    ForSpace(usize),
    /// An invitation.
    ForTicket(usize, usize),
    /// Being admitted.
    ForJoin(usize, usize),
    /// Being out.
    ForLeave(usize, usize),
    /// A document, and what to do then.
    ToOpen(Place, Then),
    /// Being in sync.
    ForSync,
    /// Rows of the feed after a seq.
    ForFeed(u64, usize),
    /// What each member of a space has cost.
    ForUsage(SpaceId),
    /// A device to be blocked.
    ToBlock,
    /// A device to be blocked no more.
    ToUnblock(DeviceId),
    /// A space to be gone.
    ToLeave,
    /// The end.
    ForShutdown,
    /// A story wants the answer.
    ForStory,
}

/// What an edit did, in the words of its application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Did {
    /// By how much it incremented the counter.
    pub increment: i64,
    /// What it did to the keys that are looked at one by one.
    pub wrote: BTreeMap<String, Wrote>,
}

/// What to do with a document once it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing but checking it.
    Check,
    /// An edit.
    Edit(u64),
    /// The first edit of a new document.
    First(u64),
}

impl World {
    /// Takes a replica's block of a device back.
    pub(super) fn unblock(&mut self, replica: usize, device: DeviceId) {
        self.command_for(replica, Command::Unblock { device }, Waiting::ToUnblock(device));
    }

    /// Takes back whatever blocks a replica has.
    pub(super) fn unblock_all(&mut self, replica: usize) {
        let blocked = self.engine(replica).map(|engine| engine.blocked().clone()).unwrap_or_default();
        blocked.into_iter().for_each(|device| self.unblock(replica, device));
    }

    /// Performs a planned act. One that makes no sense now does nothing.
    pub(super) fn act(&mut self, act: &Act, salt: u64) {
        let mut dice = Dice::salted(salt);
        match act {
            Act::Edit(replica) => self.edit_somewhere(*replica, &mut dice),
            Act::NewDocument(replica) => self.new_document(*replica, &mut dice),
            Act::Draft(replica) => self.draft_somewhere(*replica, &mut dice),
            Act::EditInTab(replica) => self.edit_in_tab(*replica, &mut dice),
            Act::Close(replica) => {
                if let Some(place) = self.some_open(*replica, &mut dice) {
                    self.close_document(*replica, place);
                }
            }
            Act::ReadPast(replica) => {
                if let Some(place) = self.some_open(*replica, &mut dice) {
                    history::read_past(self, *replica, place, dice.any());
                }
            }
            Act::ReadFeed(replica) => {
                let Some(process) = &self.replicas[*replica].process else { return };
                let (after, limit) = (process.feed_seen, dice.between(1, 20) as usize);
                self.command_for(*replica, Command::ReadFeed { after, limit }, Waiting::ForFeed(after, limit));
            }
            Act::MeasureUsage(replica) => {
                let spaces: Vec<SpaceId> = self.ledger.spaces_of(*replica).into_keys().collect();
                let Some(space) = dice.pick(&spaces).copied() else { return };
                self.command_for(*replica, Command::MeasureUsage { space }, Waiting::ForUsage(space));
            }
            Act::Block { replica, other } => {
                let device = self.replicas[*other].device;
                if self.command_for(*replica, Command::Block { device }, Waiting::ToBlock).is_some() {
                    self.stats.blocks += 1;
                }
            }
            Act::Unblock { replica, other } => {
                let device = self.replicas[*other].device;
                self.unblock(*replica, device);
            }
            Act::WaitSynced(replica) => {
                let spaces: Vec<SpaceId> = self.ledger.spaces_of(*replica).into_keys().collect();
                let Some(space) = dice.pick(&spaces).copied() else { return };
                let others: Vec<usize> =
                    self.ledger.members_of(&space).into_keys().filter(|other| other != replica).collect();
                let one =
                    dice.pick(&others).filter(|_| salt.is_multiple_of(2)).map(|other| self.replicas[*other].device);
                let command = Command::WaitSynced { space, peer: one };
                let Some(id) = self.command_for(*replica, command, Waiting::ForSync) else { return };
                let Some(process) = self.running(*replica) else { return };
                let after = dice.between(SECONDS, 30 * SECONDS);
                self.schedule(after, Happening::Forget { replica: *replica, process, command: id });
            }
            Act::Join(joiner) => self.join_now(*joiner),
            Act::Leave(replica) => self.leave_somewhere(*replica, &mut dice),
            Act::InviteAgain(replica) => self.invite_again(*replica, &mut dice),
            Act::Move(replica) => self.move_elsewhere(*replica),
            Act::Crash { replica, how: Crash::MidRequest, down } => self.replicas[*replica].doomed = Some(*down),
            Act::Crash { replica, how: Crash::WhileApplying, down } => {
                self.replicas[*replica].doomed_applying = *down;
                if let Some(process) = &self.replicas[*replica].process {
                    process.guard.doom();
                }
            }
            Act::Crash { replica, how, down } => self.crash(*replica, *how, *down),
            Act::Cut { shape, pairs, length } => self.cut(*shape, pairs, *length),
            Act::Reset(a, b) => self.reset(*a, *b),
            Act::HalfOpen { gone, other } => self.half_open(*gone, *other),
            Act::CutFrame { a, b, after } => self.cut_a_frame(*a, *b, *after),
            Act::Ail { replica, ailment, length } => self.ail(*replica, *ailment, *length),
            Act::Clock { replica, fault } => self.disturb_clock(*replica, *fault),
            Act::FillDisk(replica) => self.fail_disk(*replica, dice.below(6), Fault::Full),
            Act::BreakDisk(replica) => {
                let fault = *dice.pick(&[Fault::Io, Fault::Read, Fault::Sync, Fault::ReadOnly]).expect("not empty");
                self.fail_disk(*replica, dice.below(20), fault);
            }
            Act::Damage { replica, how } => self.damage(*replica, *how, &mut dice),
            Act::SecondProcess(replica) => self.start_second(*replica),
            Act::Backup(replica) => self.back_up(*replica, &mut dice),
            Act::Restore { replica, down } => self.restore(*replica, *down),
            Act::Clone { replica, ends, renews } => self.clone_machine(*replica, *ends, *renews, &mut dice),
            Act::Strike { replica, attack } => _ = self.strike(*replica, *attack, salt),
        }
    }

    fn edit_somewhere(&mut self, replica: usize, dice: &mut Dice) {
        if self.is_stopped(replica) {
            return;
        }
        let spaces = self.ledger.spaces_of(replica);
        let Some(process) = &self.replicas[replica].process else { return };
        let open: Vec<Place> = process.open_places().into_iter().collect();
        let mut places = open;
        if places.is_empty() || dice.percent(40) {
            for space in spaces.keys() {
                places.extend(process.engine.documents(space).into_iter().map(|document| (*space, document)));
            }
        }
        match dice.pick(&places).copied() {
            Some(place) if self.has_open(replica, &place) => self.edit(replica, place, Then::Edit(dice.any())),
            Some(place) => self.open(replica, place, Then::Edit(dice.any())),
            None => self.new_document(replica, dice),
        }
    }

    fn new_document(&mut self, replica: usize, dice: &mut Dice) {
        if self.is_stopped(replica) {
            return;
        }
        let spaces = self.ledger.spaces_of(replica);
        let writable: Vec<SpaceId> = spaces.iter().filter(|(_, role)| role.can_write()).map(|(id, _)| *id).collect();
        let Some(space) = dice.pick(&writable).copied() else { return };
        let Some(engine) = self.engine(replica) else { return };
        let document = engine.new_document_id();
        let begins = if dice.percent(50) { Begins::Empty } else { Begins::WithFirstEdit };
        self.create(replica, (space, document), begins, dice.any());
    }

    fn some_open(&self, replica: usize, dice: &mut Dice) -> Option<Place> {
        let process = self.replicas[replica].process.as_ref().filter(|_| !self.is_stopped(replica))?;
        let open: Vec<Place> = process.open_places().into_iter().collect();
        dice.pick(&open).copied()
    }

    /// Whether a replica runs and holds a document open.
    pub fn has_open(&self, replica: usize, place: &Place) -> bool {
        self.replicas[replica].process.as_ref().is_some_and(|process| process.has_open(place))
    }

    /// Makes a document and then edits it.
    pub fn create(&mut self, replica: usize, place: Place, begins: Begins, salt: u64) {
        let (space, document) = place;
        let command = Command::CreateDocument { space, document, begins };
        self.command_for(replica, command, Waiting::ToOpen(place, Then::First(salt)));
    }

    /// Opens a document and then does something with it.
    pub fn open(&mut self, replica: usize, place: Place, then: Then) {
        let (space, document) = place;
        self.command_for(replica, Command::OpenDocument { space, document }, Waiting::ToOpen(place, then));
    }

    /// Lets go of a document.
    pub fn close_document(&mut self, replica: usize, place: Place) {
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        if let Some(count) = process.open.get_mut(&place) {
            *count = count.saturating_sub(1);
            process.engine.close(&place.0, &place.1);
            self.drain(replica);
        }
    }

    /// Everything that a replica said it saved, opened again so that it is looked at.
    pub(super) fn reopen_acknowledged(&mut self, replica: usize) {
        let places: std::collections::BTreeSet<Place> =
            self.ledger.saved_by(replica).iter().map(|edited| edited.place).collect();
        for place in places {
            self.open(replica, place, Then::Check);
        }
    }

    /// A random edit by an application that does not think about roles: a reader has to be refused.
    fn edit(&mut self, replica: usize, place: Place, then: Then) {
        let (salt, first) = match then {
            Then::First(salt) => (salt, true),
            Then::Edit(salt) => (salt, false),
            Then::Check => return,
        };
        let mut dice = Dice::salted(salt);
        // What a refusal means is judged there.
        let _ = self.edit_with(replica, place, |edit| change_something(edit, &mut dice, first));
    }

    /// Makes an edit and writes down what came of it. The closure returns what it did.
    pub fn edit_with(
        &mut self,
        replica: usize,
        place: Place,
        f: impl FnOnce(&mut Edit<'_>) -> Result<Did, DocumentError>,
    ) -> Result<(), DocumentError> {
        let (space, document) = place;
        let may_write = self.may_write(replica, space);
        let at = self.now;
        let Some(process) = self.replicas[replica].process.as_mut() else {
            return Err(DocumentError::Stopped("it does not run".to_owned()));
        };
        let (now, number) = (process.clock.read(at), process.number);
        let engine = &mut process.engine;
        let tells = self.trace.tells();
        let as_json =
            |engine: &Engine| engine.view(&space, &document, None).map(|view| view.json()).unwrap_or_default();
        let told_before = if tells { as_json(engine) } else { json!(null) };
        let before = engine.view(&space, &document, None).ok().map(|view| view.heads());
        let result = engine.edit(now, &space, &document, f);
        let mut made = None;
        let mut content = [0; 32];
        let mut heads = None;
        if let Ok(view) = engine.view(&space, &document, None) {
            let now = view.heads();
            if matches!(result, Ok((_, Some(_)))) {
                content = content_hash(&view.json());
                made = view.history().into_iter().find(|change| now == [change.hash]);
            }
            heads = Some(now);
        }
        match &result {
            Ok(_) if !may_write => {
                let text = format!("#{replica} is a reader and wrote {document:.8}");
                self.fail(Kind::Safety, authorised::CHECKER, text);
            }
            Ok((_, None)) => {}
            Ok((did, Some(commit))) => {
                let (before, after) = (before.unwrap_or_default(), heads.unwrap_or_default());
                let seen = sessions::wrote(replica, place, &before, &after, made.as_ref());
                let (Some(made), Ok(())) = (made, &seen) else {
                    self.fail(Kind::Safety, sessions::CHECKER, seen.err().unwrap_or_default());
                    return Ok(());
                };
                self.watch.causality.note(&made);
                self.stats.edits += 1;
                let twice = self.options.tamper == Tamper::Miscounted;
                let increment = if twice { 2 * did.increment } else { did.increment };
                self.trace.note(at, Some(replica), &format!("edited {document:.8}: {:.8}", made.hash));
                if tells && let Some(engine) = self.engine(replica) {
                    let told_now = as_json(engine);
                    self.tell_edit(replica, &document, &made.hash, &told_before, &told_now);
                }
                let edited = Edited { place, change: made.hash, increment, content, wrote: did.wrote.clone() };
                self.ledger.edited(replica, *commit, edited, (made.actor, made.seq));
                if !self.expects_forks
                    && let Err(text) = self.registry.produced(replica, number, place, &made)
                {
                    self.fail(Kind::Safety, actors::CHECKER, text);
                }
            }
            Err(error) => {
                if before != heads {
                    let text =
                        format!("#{replica}: a refused edit of {document:.8} left {heads:?} where {before:?} was");
                    self.fail(Kind::Safety, "refused edits", text);
                }
                let failing = self.replicas[replica].may_fail();
                let stopped = matches!(error, DocumentError::Stopped(_) | DocumentError::Halted(_)) && failing;
                match error {
                    DocumentError::NotAWriter(_) if !may_write => self.stats.refused_edits += 1,
                    DocumentError::Busy(_) => {}
                    _ if stopped => {}
                    error => self.fail(Kind::Safety, "edits", format!("#{replica}: an edit was refused: {error}")),
                }
            }
        }
        self.drain(replica);
        result.map(|_| ())
    }

    /// Writes down that a replica has made an empty document.
    pub fn created(&mut self, replica: usize, place: Place, commit: CommitId) {
        let (space, document) = place;
        let Some(process) = self.replicas[replica].process.as_ref() else { return };
        let number = process.number;
        let Ok(view) = process.engine.view(&space, &document, None) else { return };
        let (history, content) = (view.history(), content_hash(&view.json()));
        let made = match &history[..] {
            [made] if made.ops == 0 => made.clone(),
            other => {
                let text = format!("#{replica} made {document:.8}, and there is {other:?} in it");
                return self.fail(Kind::Safety, "answers", text);
            }
        };
        self.watch.causality.note(&made);
        self.stats.documents_made_empty += 1;
        let edited = Edited { place, change: made.hash, increment: 0, content, wrote: BTreeMap::new() };
        self.ledger.edited(replica, commit, edited, (made.actor, made.seq));
        if !self.expects_forks
            && let Err(text) = self.registry.produced(replica, number, place, &made)
        {
            self.fail(Kind::Safety, actors::CHECKER, text);
        }
    }

    pub(super) fn answered(&mut self, replica: usize, command: CommandId, result: Result<Reply, CommandError>) {
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        let number = process.number;
        let Some(waiting) = process.commands.remove(&command) else {
            let text = format!("#{replica} answers {command:?}, which nobody waits for: {result:?}");
            return self.fail(Kind::Safety, "answers", text);
        };
        if matches!(waiting, Waiting::ForStory) {
            self.answers.insert((replica, command), result);
            return;
        }
        let reply = match result {
            Ok(reply) => reply,
            Err(CommandError::Stopped(_)) if self.replicas[replica].may_fail() => return,
            Err(CommandError::Halted(_) | CommandError::Unsaved { .. }) if self.replicas[replica].may_fail() => {
                return self.put_off(replica, &waiting);
            }
            Err(CommandError::Damaged(_)) if self.replicas[replica].is_damaged() => return,
            Err(error) if self.is_expected(replica, &waiting, &error) => return,
            Err(error) => {
                let text = format!("#{replica}: {waiting:?} failed: {error}");
                return self.fail(Kind::Safety, "answers", text);
            }
        };
        match (waiting, reply) {
            (
                Waiting::ForNothing
                | Waiting::ForShutdown
                | Waiting::ToLeave
                | Waiting::ToBlock
                | Waiting::ToUnblock(_),
                Reply::Done,
            ) => {}
            (Waiting::ForUsage(space), Reply::Usage(usage)) => {
                let Some(engine) = self.engine(replica) else { return };
                let members = engine.members(&space).into_iter().map(|member| member.device);
                if members.into_iter().any(|member| usage.iter().all(|(device, _)| *device != member)) {
                    let text = format!("#{replica}: a member of {space:.8} has cost nothing, not even 0: {usage:?}");
                    self.fail(Kind::Safety, "usage", text);
                }
            }
            (Waiting::ForSpace(index), Reply::SpaceReady(space)) => self.founded(index, replica, space),
            (Waiting::ForTicket(index, goal), Reply::Ticket(ticket)) => self.invited(index, goal, replica, ticket),
            (Waiting::ForJoin(index, goal), Reply::SpaceReady(space)) => self.admitted(index, goal, replica, space),
            (Waiting::ForLeave(index, goal), Reply::Done) => self.is_out(index, goal),
            (Waiting::ToOpen(place, then), reply @ (Reply::DocumentOpen | Reply::DocumentCreated { .. })) => {
                if let Reply::DocumentCreated { commit: Some(commit) } = reply {
                    self.created(replica, place, commit);
                }
                let still_wanted = self.ledger.spaces_of(replica).contains_key(&place.0);
                if let Some(process) = self.process(replica, number).filter(|_| still_wanted) {
                    *process.open.entry(place).or_default() += 1;
                    acknowledged::in_document(self, replica, place);
                    self.look(replica, place);
                    match then {
                        Then::Check => {}
                        Then::Edit(_) | Then::First(_) => self.edit(replica, place, then),
                    }
                }
            }
            (Waiting::ForSync, Reply::Synced) => self.stats.synced += 1,
            (Waiting::ForFeed(after, limit), Reply::Feed(rows)) => {
                let seqs: Vec<u64> = rows.iter().map(|row| row.seq).collect();
                let in_order = seqs.is_sorted_by(|a, b| a < b) && seqs.first().is_none_or(|first| *first > after);
                // Of a document that a damaged disk has left nothing of, just that is told.
                let is_empty = |row: &FeedRow| row.heads.is_empty() && !self.replicas[replica].was_damaged;
                if !in_order || rows.len() > limit || rows.iter().any(is_empty) {
                    let text = format!("#{replica}: after {after} at most {limit} rows, got {rows:?}");
                    self.fail(Kind::Safety, "feed", text);
                }
                if let (Some(process), Some(last)) = (self.process(replica, number), seqs.last()) {
                    process.feed_seen = *last;
                }
            }
            (waiting, reply) => {
                let text = format!("#{replica}: {waiting:?} was answered with {reply:?}");
                self.fail(Kind::Safety, "answers", text);
            }
        }
    }
}

/// Hash of a document's content. automerge gives the keys of a map in order, so equal content has equal text.
pub fn content_hash(json: &serde_json::Value) -> [u8; 32] {
    *blake3::hash(json.to_string().as_bytes()).as_bytes()
}

/// One to three random changes. Returns what they were.
fn change_something(edit: &mut Edit<'_>, dice: &mut Dice, first: bool) -> Result<Did, DocumentError> {
    let mut did = Did::default();
    if first {
        // Made once, with the document: a counter that two make at once is two counters.
        edit.set_counter("/count", 0)?;
        edit.set("/title", format!("document {}", dice.below(1000)))?;
    }
    for _ in 0..dice.between(1, 3) {
        match dice.below(100) {
            0..30 => {
                let key = format!("k{}", dice.below(4));
                let path = format!("/{key}");
                let mut value = some_value(dice);
                if edit.get(path.as_str()).as_ref() == Some(&value) {
                    // What is there already is not written once more, and is not in the books.
                    value = json!(format!("another {}", dice.any()));
                }
                edit.set(path.as_str(), value)?;
                did.wrote.insert(key, Wrote::Set);
            }
            30..45 => {
                let by = dice.between(1, 9) as i64 - 4;
                if edit.get("/count").is_some() && by != 0 {
                    edit.increment("/count", by)?;
                    did.increment += by;
                }
            }
            45..60 => change_list(edit, dice)?,
            60..82 => change_text(edit, dice)?,
            82..92 => {
                if edit.get("/map").is_none() {
                    edit.set("/map", json!({}))?;
                }
                // By what differs: a text that is there already is edited, not replaced.
                edit.merge(format!("/map/{}", dice.below(5)).as_str(), some_value(dice), Rules::default())?;
            }
            92..96 => {
                let key = format!("k{}", dice.below(4));
                let path = format!("/{key}");
                if edit.get(path.as_str()).is_some() {
                    edit.remove(path.as_str())?;
                    did.wrote.insert(key, Wrote::Removed);
                }
            }
            96..98 => edit.set_bytes("/blob", &vec![dice.below(256) as u8; dice.below(40_000) as usize])?,
            _ => {
                let text = "many words in one go, ".repeat(dice.between(10, 100) as usize);
                edit.set("/long", text)?;
            }
        }
    }
    Ok(did)
}

fn change_list(edit: &mut Edit<'_>, dice: &mut Dice) -> Result<(), DocumentError> {
    let length = match edit.length("/list") {
        Some(length) => length,
        None => {
            edit.set("/list", json!([]))?;
            0
        }
    };
    let at = format!("/list/{}", dice.index(length.max(1)));
    if length > 0 && dice.percent(30) {
        edit.remove(at.as_str())?;
    } else {
        edit.insert(at.as_str(), some_value(dice))?;
    }
    Ok(())
}

fn change_text(edit: &mut Edit<'_>, dice: &mut Dice) -> Result<(), DocumentError> {
    let length = match edit.length("/text") {
        Some(length) => length,
        None => {
            edit.set("/text", "")?;
            0
        }
    };
    let at = dice.index(length + 1);
    let delete = if dice.percent(30) { dice.index(4).min(length - at) } else { 0 };
    let words = ["a", "word ", "zwölf ", "🌊", "\n", "some longer words "];
    edit.splice_text("/text", at, delete, dice.pick(&words).expect("not empty"))?;
    Ok(())
}

fn some_value(dice: &mut Dice) -> serde_json::Value {
    match dice.below(7) {
        0 => json!(null),
        1 => json!(dice.percent(50)),
        2 => json!(dice.below(1_000_000)),
        3 => json!(-(dice.below(1000) as i64)),
        4 => json!(dice.below(1000) as f64 / 8.0),
        5 => json!({ "a": dice.below(10), "b": ["x", dice.below(10)] }),
        _ => json!(format!("value {}", dice.below(100))),
    }
}

/// How often the world looks whether it has settled.
pub const LOOK_EVERY: u64 = 250 * MILLIS;

/// A document that does not exist yet.
pub fn new_place(world: &mut World, replica: usize, space: SpaceId) -> Option<(SpaceId, DocumentId)> {
    Some((space, world.engine(replica)?.new_document_id()))
}
