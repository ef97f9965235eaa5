//! What must hold, one file for each promise, named as in the list of invariants: I1 and so on. Each looks at the world and
//! reports the first thing that is wrong. Each can be seen to fail: by an engine with a deliberate fault (`mutants`), by a
//! world with one ([`super::Tamper`]), and by made-up observations in its own tests.
//!
//! This file says when they look: with every commit, every start, every 64th event, and once all agree.

use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::id::{ChangeHash, DeviceId, DocumentId, SpaceId};
use anabranch_engine::limits::ORPHAN_AGE_MAX;
use anabranch_engine::storage::{Row, Table};

use super::Kind;
use super::SECONDS;
use super::ledger::Place;
use super::world::World;

pub mod acknowledged;
pub mod actors;
pub mod amplification;
pub mod atomic;
pub mod authorised;
pub mod causality;
pub mod convergence;
pub mod counters;
pub mod deletions;
pub mod determinism;
pub mod dials;
pub mod durability;
pub mod history;
pub mod liveness;
pub mod memory;
pub mod panics;
pub mod patches;
pub mod sessions;
pub mod silence;
pub mod untouched;
pub mod versions;

pub use actors::Registry;

/// What the checkers keep in mind from one look to the next, outside every simulated disk.
#[derive(Debug, Default)]
pub struct Watch {
    /// Of all changes.
    pub causality: causality::Causality,
    /// Of what applications have seen.
    pub sessions: sessions::Sessions,
    /// Of what disks must hold.
    pub durability: durability::Durability,
    /// Of what follows from patches alone.
    pub followers: patches::Followers,
    /// Of what was to come as a whole.
    pub drafts: atomic::Drafts,
    /// Of what was made.
    pub made: amplification::Made,
    /// Of who is being dialed.
    pub dials: dials::Dials,
    audit: authorised::Audit,
}

impl Watch {
    /// The store has answered a replica's oldest commit.
    pub fn answered(&mut self, replica: usize, done: bool) {
        self.durability.answered(replica, done);
        if done {
            self.sessions.committed(replica);
        }
    }

    /// A replica's process ended.
    pub fn died(&mut self, replica: usize) {
        self.sessions.died(replica);
        self.followers.died(replica);
        self.dials.died(replica);
    }

    /// A replica leaves a space: nothing of it is looked at any more.
    pub fn left(&mut self, replica: usize, space: SpaceId) {
        self.sessions.left(replica, space);
        self.followers.left(replica, space);
        self.causality.left(replica, space);
    }

    /// A replica has found that something of what it holds is gone from its disk.
    pub fn doubt(&mut self, replica: usize) {
        self.look_anew(replica);
        self.durability.doubt(replica);
    }

    /// A replica gets another disk than the one it had: an older one, a copy, one that lost what it said it had. What it holds
    /// from now on is what it starts with.
    pub fn forget(&mut self, replica: usize) {
        self.look_anew(replica);
        self.durability.forget(replica);
    }

    /// What a replica has shown and held so far is nothing to compare with.
    fn look_anew(&mut self, replica: usize) {
        self.died(replica);
        self.causality.forget(replica);
        self.sessions.forget(replica);
    }
}

impl World {
    /// A replica hands a commit to its store.
    pub(super) fn check_commit(&mut self, replica: usize, rows: &[Row]) {
        if let Err(text) = versions::golden(rows) {
            return self.fail(Kind::Safety, versions::CHECKER, format!("#{replica}: {text}"));
        }
        let mut documents = Vec::new();
        for row in rows.iter().filter(|row| row.table == Table::Documents) {
            let (Some(value), Some((space, document))) = (&row.value, place_of(&row.key)) else { continue };
            match DocumentRecord::decode_stored(space, document, value) {
                Ok(record) => documents.push(((space, document), record)),
                Err(error) => return self.fail(Kind::Safety, durability::CHECKER, format!("#{replica}: {error}")),
            }
        }
        self.watch.made.stored(rows);
        let (mut held, mut atomic) = (Ok(()), Ok(()));
        for (place, record) in &documents {
            if self.is_forked(place) {
                continue;
            }
            held = held.and_then(|()| self.watch.causality.holds(replica, *place, &record.frontier));
            atomic = atomic.and_then(|()| self.watch.drafts.holds(replica, *place, &record.frontier));
            self.watch.sessions.committing(replica, *place, record.heads.clone());
        }
        let whole = self.watch.durability.asked(replica, rows, &documents);
        for (checker, result) in [(causality::CHECKER, held), (atomic::CHECKER, atomic)] {
            if let Err(text) = result {
                self.fail(Kind::Safety, checker, text);
            }
        }
        // Of a document that cannot be read whole the record goes on saying what was there, until it is mended.
        if let Err(text) = whole
            && !self.replicas[replica].is_damaged()
        {
            self.fail(Kind::Safety, durability::CHECKER, text);
        }
    }

    /// A replica starts: nothing has been written since.
    pub(super) fn check_start(&mut self, replica: usize) {
        let Some(process) = &self.replicas[replica].process else { return };
        let damaged = self.replicas[replica].damaged;
        let rows = match process.store.rows() {
            Ok(rows) => rows,
            Err(_) if damaged => {
                let readable = process.store.readable_rows();
                if !self.starts_with_damage(replica) {
                    return;
                }
                readable
            }
            Err(failure) => return self.fail(Kind::Safety, "store", format!("#{replica}: {failure}")),
        };
        let found = durability::hashed(rows);
        if let Err(text) = self.watch.durability.genuine(&found) {
            return self.fail(Kind::Safety, durability::CHECKER, format!("#{replica} {text}"));
        }
        if let Err(text) = self.watch.durability.started(replica, found) {
            if damaged {
                // Damage to redb's header makes it go back to the commit before.
                return self.finds_damage(replica);
            }
            self.fail(Kind::Safety, durability::CHECKER, text);
        }
    }

    /// A replica begins to dial.
    pub(super) fn check_dial(&mut self, replica: usize, address: &str, peer: Option<DeviceId>) {
        let Some(process) = &self.replicas[replica].process else { return };
        let (now, looks_around) = (process.clock.read(self.now).mono, process.engine.counters().looks_around);
        if let Err(text) = self.watch.dials.begins(replica, now, looks_around, address, peer) {
            self.fail(Kind::Safety, dials::CHECKER, text);
        }
    }

    /// What can be asked at any moment of whoever runs.
    pub(super) fn check_step(&mut self) {
        for replica in self.honest() {
            let Some(process) = &self.replicas[replica].process else { continue };
            let forgotten = process.engine.audit().map_err(|table| format!("what it has let go among the {table}"));
            if let Err(text) = memory::bounded(&process.engine.held()).and(forgotten) {
                self.fail(Kind::Safety, memory::CHECKER, format!("#{replica} holds {text}"));
                return;
            }
            for place in process.open_places() {
                acknowledged::in_document(self, replica, place);
                self.look(replica, place);
            }
        }
    }

    /// An application looks at a document that it has open.
    pub(super) fn look(&mut self, replica: usize, place: Place) {
        let (space, document) = place;
        let Some(process) = &self.replicas[replica].process else { return };
        let Ok(view) = process.engine.view(&space, &document, None) else { return };
        let heads = view.heads();
        if self.watch.sessions.has_read(replica, process.number, place, &heads) {
            return;
        }
        let has = |hash: &ChangeHash| process.engine.view(&space, &document, Some(&[*hash])).is_ok();
        let whole = self.watch.drafts.shows(replica, place, has);
        let read = self.watch.sessions.reads(replica, process.number, place, &heads, has);
        let (mut shown, mut followed) = (Ok(()), Ok(()));
        if is_followed(&place) {
            shown = self.watch.causality.shows(replica, place, &view.history());
            let number = process.number;
            if let Some(process) = &mut self.replicas[replica].process {
                followed = self.watch.followers.follow(replica, number, place, &mut process.engine).map(|_| ());
            }
        }
        let results = [
            (atomic::CHECKER, whole),
            (sessions::CHECKER, read),
            (causality::CHECKER, shown),
            (patches::CHECKER, followed),
        ];
        for (checker, result) in results {
            if let Err(text) = result {
                self.fail(Kind::Safety, checker, text);
            }
        }
    }

    /// All agree, and all documents are open everywhere.
    pub(super) fn check_agreed(&mut self, observed: &[convergence::Observed]) {
        convergence::check(self, observed);
        // What somebody hostile makes and says is not in the books.
        let all_honest = self.attackers.is_empty();
        let results = [
            (acknowledged::CHECKER, acknowledged::everywhere(acknowledged::promised(self), observed)),
            (counters::CHECKER, counters::exact(&self.ledger, observed)),
            (deletions::CHECKER, deletions::keys(&self.ledger, &self.watch.causality, observed)),
            (amplification::CHECKER, if all_honest { amplification::check(self) } else { Ok(()) }),
        ];
        for (checker, result) in results {
            if let Err(text) = result {
                self.fail(Kind::Safety, checker, text);
            }
        }
        history::everywhere(self);
        for replica in self.honest() {
            self.check_documents(replica);
        }
    }

    /// Every open document of a replica: what it shows, what follows from patches, what its store has of it.
    fn check_documents(&mut self, replica: usize) {
        let Some(process) = &self.replicas[replica].process else { return };
        let rows = match process.store.rows() {
            Ok(rows) => rows,
            // Its disk failed a moment ago, and its engine has not been told yet.
            Err(_) if self.replicas[replica].disk_failed => return,
            Err(failure) => return self.fail(Kind::Safety, "store", format!("#{replica}: {failure}")),
        };
        let there = &self.replicas[replica];
        let salvaged = there.was_damaged.then_some(there.device);
        let renewed = there.is_renewed.then_some(there.device);
        // What makes sense of what damage has left may be on its way to the disk.
        let is_complete = process.store.is_idle() || salvaged.is_none();
        let stored = match is_complete.then(|| self.watch.audit.walk(&rows, salvaged, renewed)).transpose() {
            Ok(stored) => stored,
            Err(text) => return self.fail(Kind::Safety, authorised::CHECKER, format!("#{replica}: {text}")),
        };
        let mut places = process.open_places();
        places.retain(|place| !self.is_forked(place));
        for place in places {
            let (space, document) = place;
            let Some(process) = &mut self.replicas[replica].process else { return };
            let Ok(read) = process.engine.view(&space, &document, None).map(|view| view.json()) else { continue };
            let content = self.watch.followers.follow(replica, process.number, place, &mut process.engine);
            let followed = content.and_then(|content| patches::equal(replica, place, content, &read));
            let Ok(view) = process.engine.view(&space, &document, None) else { continue };
            let changes = view.history();
            let shown = self.watch.causality.shows(replica, place, &changes);
            let forked = changes.iter().try_for_each(|change| self.registry.seen(change));
            // What came a moment ago may not be on disk yet.
            let stored = stored.as_ref().filter(|_| process.store.is_idle());
            let unsigned = stored.and_then(|stored| changes.iter().find(|change| !stored.contains(&change.hash)));
            if let Err(text) = followed {
                return self.fail(Kind::Safety, patches::CHECKER, text);
            }
            if let Err(text) = shown {
                return self.fail(Kind::Safety, causality::CHECKER, text);
            }
            if let Err(text) = forked {
                return self.fail(Kind::Safety, actors::CHECKER, format!("#{replica} holds {text}"));
            }
            if let Some(change) = unsigned {
                let text = format!("#{replica} shows {:.8} of {document:.8}, which no stored run holds", change.hash);
                return self.fail(Kind::Safety, authorised::CHECKER, text);
            }
        }
    }

    /// Nobody has written for a while, and all are in sync: which they never are with somebody hostile.
    pub(super) fn check_at_rest(&mut self) {
        if !self.attackers.keys().all(|replica| self.is_trustworthy(*replica)) {
            return;
        }
        let stores_gone = self.stats.leaves + self.stats.clones_ended + self.stats.stores_set_back();
        if stores_gone > 0 {
            // What was built on an edit that is gone with its only store waits for it, and not for ever.
            self.run_for(ORPHAN_AGE_MAX.0);
        }
        // What a relay withheld is still on its way, as far as its own engine knows. So is what was lost where streams lose
        // frames, as none does that is real: the credit for it never comes, and what waits for that stays.
        let loses = self.options.network.frames.drop > 0;
        for replica in self.honest() {
            // A keep-alive may just be on its way.
            let rests = |world: &mut Self| {
                let process = world.replicas[replica].process.as_ref();
                let held = process.map(|process| process.engine.held()).unwrap_or_default();
                let held: Vec<_> =
                    held.into_iter().filter(|held| !(loses && held.what.ends_with("for a peer"))).collect();
                memory::at_rest(&held)
            };
            self.run_while_not(SECONDS / 10, 10 * SECONDS, |world| rests(world).is_ok());
            if let Err(text) = rests(self) {
                self.fail(Kind::Safety, memory::CHECKER, format!("#{replica}: {text}"));
            }
        }
    }

    /// Who runs and is not hostile.
    pub(super) fn honest(&self) -> Vec<usize> {
        self.alive().into_iter().filter(|replica| self.is_honest(*replica)).collect()
    }
}

/// Of every fourth document all versions are looked at that an application sees, of the others the last, when all agree: looking
/// costs more than making them.
fn is_followed(place: &Place) -> bool {
    place.1.0[0].is_multiple_of(4)
}

/// What a key of a document's record says.
fn place_of(key: &[u8]) -> Option<Place> {
    let (space, document) = key.split_first_chunk()?;
    Some((SpaceId(*space), DocumentId::from_slice(document)?))
}
