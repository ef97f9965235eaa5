//! Chains of blocked devices that one peer has sent us and we did not take, because nobody builds on them. We tell that peer that we
//! have them, so that it does not send them with every comparison. We tell it only of what it sent us itself, so that nobody can hide
//! from us what an honest peer has.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::document::record::DocumentRecord;
use crate::id::{ActorId, DocumentId};
use crate::limits::LEFT_OUT_MAX;
use crate::sync::transfer::tips;
use crate::wire::ActorTip;

/// By document and actor. Of one space.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    tips: BTreeMap<(DocumentId, ActorId), ActorTip>,
}

impl LeftOut {
    /// A run that was not taken. Beyond the limit nothing is noted, and such a run comes again.
    pub(crate) fn note(&mut self, document: DocumentId, tip: ActorTip) {
        let key = (document, tip.actor);
        if self.tips.len() >= LEFT_OUT_MAX && !self.tips.contains_key(&key) {
            return;
        }
        let known = self.tips.entry(key).or_insert(tip);
        if known.seq < tip.seq {
            *known = tip;
        }
    }

    /// Of a document everything is asked for again. Says whether something was left out of it.
    pub(crate) fn forget(&mut self, document: &DocumentId) -> bool {
        self.tips.extract_if(of(document), |_, _| true).count() > 0
    }

    /// Whether something was left out of a document.
    pub(crate) fn has(&self, document: &DocumentId) -> bool {
        self.tips.range(of(document)).next().is_some()
    }

    /// How far an actor's chain was left out.
    pub(crate) fn until(&self, document: &DocumentId, actor: &ActorId) -> Option<u64> {
        self.tips.get(&(*document, *actor)).map(|tip| tip.seq)
    }

    /// The frontier that the peer is sent for a document: `ours`, and what was left out.
    pub(crate) fn shown(&self, document: &DocumentId, ours: &DocumentRecord) -> Vec<ActorTip> {
        let held = tips(ours);
        if !self.has(document) {
            return held;
        }
        let mut all: BTreeMap<ActorId, ActorTip> = held.into_iter().map(|tip| (tip.actor, tip)).collect();
        for tip in self.tips.range(of(document)).map(|(_, tip)| *tip) {
            if all.get(&tip.actor).is_none_or(|held| held.seq < tip.seq) {
                all.insert(tip.actor, tip);
            }
        }
        all.into_values().collect()
    }

    /// Whether we lack nothing of the peer's frontier but what was left out.
    pub(crate) fn covers(&self, document: &DocumentId, ours: &DocumentRecord, theirs: &[ActorTip]) -> bool {
        theirs.iter().all(|tip| {
            let held = ours.frontier.actors.get(&tip.actor).map(|proof| proof.header.last_seq);
            held.max(self.until(document, &tip.actor)) >= Some(tip.seq)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.tips.len()
    }
}

fn of(document: &DocumentId) -> RangeInclusive<(DocumentId, ActorId)> {
    (*document, ActorId([0; 16]))..=(*document, ActorId([0xff; 16]))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::id::ChangeHash;

    fn tip(actor: u8, seq: u64) -> ActorTip {
        ActorTip { actor: ActorId([actor; 16]), seq, lamport: seq, tip: ChangeHash([actor; 32]) }
    }

    #[test]
    fn a_peer_is_shown_what_it_has_shown_until_somebody_builds_on_it() {
        let (mut left_out, nothing) = (LeftOut::default(), DocumentRecord::default());
        let [one, other] = [DocumentId([1; 16]), DocumentId([2; 16])];
        for (document, tip) in [(one, tip(7, 3)), (one, tip(7, 2)), (one, tip(5, 1)), (other, tip(7, 9))] {
            left_out.note(document, tip);
        }
        assert_eq!(left_out.shown(&one, &nothing), [tip(5, 1), tip(7, 3)]);
        assert!(left_out.covers(&one, &nothing, &[tip(7, 3), tip(5, 1)]));
        assert!(!left_out.covers(&one, &nothing, &[tip(7, 4)]) && !left_out.covers(&one, &nothing, &[tip(8, 1)]));
        assert!(left_out.forget(&one) && !left_out.forget(&one));
        assert_eq!(left_out.shown(&one, &nothing), vec![]);
        assert!(!left_out.has(&one) && left_out.has(&other) && left_out.len() == 1);
    }

    #[test]
    fn no_more_is_noted_than_the_limit() {
        let mut left_out = LeftOut::default();
        for n in 0..=LEFT_OUT_MAX as u128 {
            left_out.note(DocumentId(n.to_be_bytes()), tip(1, 1));
        }
        let last = DocumentId((LEFT_OUT_MAX as u128).to_be_bytes());
        assert!(left_out.len() == LEFT_OUT_MAX && !left_out.has(&last));
        left_out.note(DocumentId([0; 16]), tip(1, 2));
        assert!(left_out.covers(&DocumentId([0; 16]), &DocumentRecord::default(), &[tip(1, 2)]));
    }
}
