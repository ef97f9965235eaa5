//! Drafts: several changes that an application makes on a private copy, takes its time over, and publishes together.

use anabranch_engine::document::view::ChangeInfo;
use anabranch_engine::document::{Draft, DraftError};
use anabranch_engine::id::ChangeHash;
use anabranch_engine::storage::CommitId;
use anabranch_engine::{DocumentError, Published};

use super::{Did, change_something, content_hash};
use crate::sim::checkers::{actors, authorised, sessions};
use crate::sim::dice::Dice;
use crate::sim::ledger::{Edited, Place};
use crate::sim::world::{Happening, World};
use crate::sim::{Kind, MILLIS, SECONDS};

/// A draft that is being made. It ends with its process.
pub struct UnderWay {
    place: Place,
    draft: Draft,
    made: Vec<Made>,
}

/// One of its changes, as its application saw it.
struct Made {
    change: ChangeInfo,
    did: Did,
    content: [u8; 32],
}

impl World {
    /// A draft of a document that is open, to be published a while later.
    pub(super) fn draft_somewhere(&mut self, replica: usize, dice: &mut Dice) {
        let Some(place) = self.some_open(replica, dice) else { return };
        let (space, document) = place;
        let at = self.now;
        let may_write = self.may_write(replica, place.0);
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        let begun = process.engine.draft(process.clock.read(at), &space, &document);
        self.drain(replica);
        let draft = match begun {
            Ok(_) if !may_write => {
                let text = format!("#{replica} is a reader and drafts {document:.8}");
                return self.fail(Kind::Safety, authorised::CHECKER, text);
            }
            Ok(draft) => draft,
            Err(error) => return self.draft_refused(replica, &place, &error),
        };
        let mut under_way = UnderWay { place, draft, made: Vec::new() };
        if let Err(error) = under_way.make(dice) {
            return self.fail(Kind::Safety, "drafts", format!("#{replica}: an edit of a draft was refused: {error}"));
        }
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        let (number, draft) = (process.number, process.drafts_made);
        process.drafts_made += 1;
        process.drafts.insert(draft, under_way);
        // Chaos is over when it is over.
        let after = dice.heavy(MILLIS, SECONDS, 200, 30 * SECONDS).min(self.options.chaos.saturating_sub(at));
        self.schedule(after, Happening::Publish { replica, process: number, draft });
    }

    /// Publishes a draft, or catches up with its document first.
    pub(in crate::sim) fn publish_draft(&mut self, replica: usize, process: u64, number: u64) {
        let at = self.now;
        let Some(running) = self.process(replica, process) else { return };
        let Some(mut under_way) = running.drafts.remove(&number) else { return };
        let place = under_way.place;
        let before = running.engine.view(&place.0, &place.1, None).map(|view| view.heads()).unwrap_or_default();
        let published = running.engine.publish(running.clock.read(at), &mut under_way.draft);
        match published {
            Ok(Published::Behind(ahead)) => match under_way.draft.catch_up(ahead) {
                Ok(()) => {
                    running.drafts.insert(number, under_way);
                    let after = self.dice.workload.between(1, 20 * MILLIS);
                    self.schedule(after, Happening::Publish { replica, process, draft: number });
                }
                Err(error) => self.draft_refused(replica, &place, &error.into()),
            },
            Ok(Published::Done(None)) => {}
            Ok(Published::Done(Some(commit))) => self.draft_published(replica, process, &before, commit, under_way),
            Err(error) => self.draft_refused(replica, &place, &error),
        }
        self.drain(replica);
    }

    fn draft_published(
        &mut self,
        replica: usize,
        process: u64,
        before: &[ChangeHash],
        commit: CommitId,
        under_way: UnderWay,
    ) {
        let UnderWay { place, made, .. } = under_way;
        if !self.may_write(replica, place.0) {
            let text = format!("#{replica} is a reader and published a draft of {:.8}", place.1);
            return self.fail(Kind::Safety, authorised::CHECKER, text);
        }
        let Some(engine) = self.engine(replica) else { return };
        let has = |hash: ChangeHash| engine.view(&place.0, &place.1, Some(&[hash])).is_ok();
        if let Some(gone) =
            before.iter().copied().chain(made.iter().map(|made| made.change.hash)).find(|hash| !has(*hash))
        {
            let text = format!("#{replica} published a draft of {:.8}, and sees it without {gone:.8}", place.1);
            return self.fail(Kind::Safety, sessions::CHECKER, text);
        }
        self.stats.drafts += 1;
        if self.is_honest(replica) {
            self.watch.drafts.published(place, made.iter().map(|made| &made.change));
        }
        for Made { change, did, content } in made {
            self.watch.causality.note(&change);
            self.stats.edits += 1;
            let edited = Edited { place, change: change.hash, increment: did.increment, content, wrote: did.wrote };
            self.ledger.edited(replica, commit, edited, (change.actor, change.seq));
            if !self.expects_forks
                && let Err(text) = self.registry.produced(replica, process, place, &change)
            {
                self.fail(Kind::Safety, actors::CHECKER, text);
            }
        }
        self.trace.note(self.now, Some(replica), &format!("published a draft of {:.8}", place.1));
    }

    /// A draft came to nothing. That has to have a reason.
    fn draft_refused(&mut self, replica: usize, place: &Place, error: &DocumentError) {
        if self.is_expected_refusal(replica, place, error) {
            self.stats.drafts_refused += 1;
        } else {
            self.fail(Kind::Safety, "drafts", format!("#{replica}: a draft of {:.8} was refused: {error}", place.1));
        }
    }

    /// Whether a draft, or an edit at a version, may be refused for this.
    pub(super) fn is_expected_refusal(&mut self, replica: usize, place: &Place, error: &DocumentError) -> bool {
        let may_write = self.may_write(replica, place.0);
        let there = &self.replicas[replica];
        match error {
            DocumentError::NotAWriter(_) | DocumentError::UnknownSpace(_) => !may_write,
            DocumentError::Busy(_) => true,
            DocumentError::Stopped(_) | DocumentError::Halted(_) => there.may_fail(),
            // It was closed, left, or built again of what was readable.
            DocumentError::NotOpen(_)
            | DocumentError::UnknownHeads(_)
            | DocumentError::Draft(DraftError::BaseGone(_)) => {
                there.was_damaged || there.is_damaged() || self.stats.leaves > 0 || !self.has_open(replica, place)
            }
            DocumentError::Draft(DraftError::Copied(_)) => self.expects_forks || self.stats.clones > 0,
            DocumentError::ReadOnly(_)
            | DocumentError::Edit(_)
            | DocumentError::TooManyEditors(_)
            | DocumentError::Draft(DraftError::Published | DraftError::TooLarge { .. } | DraftError::Internal(_)) => {
                false
            }
        }
    }
}

impl UnderWay {
    /// Two to six changes. Most are small; a few drafts are larger than what is sent in one frame, and one in a hundred is larger
    /// than what edits share.
    fn make(&mut self, dice: &mut Dice) -> Result<(), DocumentError> {
        let changes = dice.between(2, 6);
        let bytes = match dice.below(100) {
            0 => 240_000,
            1..10 => dice.between(20_000, 60_000),
            _ => dice.below(200),
        };
        for part in 0..changes {
            let noise = dice.any();
            let did = self.draft.edit(|edit| {
                let did = change_something(edit, dice, false)?;
                let block: Vec<u8> =
                    (0..bytes).map(|i| (i.wrapping_mul(noise | 1).rotate_left(17) >> 24) as u8).collect();
                edit.set_bytes(format!("/draft {part}").as_str(), &block)?;
                Ok::<_, DocumentError>(did)
            })?;
            let view = self.draft.view();
            let heads = view.heads();
            let made = view.history().into_iter().find(|change| heads == [change.hash]);
            if let Some(change) = made {
                self.made.push(Made { change, did, content: content_hash(&view.json()) });
            }
        }
        Ok(())
    }
}
