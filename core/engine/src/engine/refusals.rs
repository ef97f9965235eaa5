//! Refused runs: who is told, and why.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use tracing::debug;

use crate::engine::Engine;
use crate::engine::input::SessionId;
use crate::engine::output::Event;
use crate::engine::sessions::ANSWERS;
use crate::gate::Refusal;
use crate::limits::{BADLY_SIGNED_MAX, PEER_TEXT_CHARS_MAX};
use crate::mutants::Mutant;
use crate::run::RunHeader;
use crate::space::Fork;
use crate::wire::{Message, RefusalCode, SpaceIndex};

/// About what it takes to tell that a run was refused.
const REFUSAL_BYTES: u64 = 160;

impl Engine {
    /// Tells the peer that brought a run, and the application, that it was refused.
    pub(super) fn refuse(&mut self, session: SessionId, header: &RunHeader, refusal: &Refusal) {
        self.counters.runs_refused += 1;
        *self.counters.refused_for(refusal) += 1;
        let reason = refusal.to_string();
        debug!(document = %header.document, actor = %header.actor, %reason, "run refused");
        if matches!(refusal, Refusal::Poisoned) {
            self.poison.add(header.tip, &mut self.commits);
        }
        let Some(peer) = self.sessions.get(&session).map(|session| session.peer) else {
            return;
        };
        self.tolls.of(peer).refused += 1;
        if let Refusal::Fork { seq, .. } = refusal {
            if let Some((_, shared)) = self.sessions.get_mut(&session).and_then(|s| s.shared_in(&header.space)) {
                shared.fork(header.document, header.actor);
            }
            let fork = Fork { actor: header.actor, seq: *seq, is_seen: true };
            self.note_fork((header.space, header.document), peer, fork);
        }
        if let (Refusal::BadSignature, Some(of)) = (refusal, self.sessions.get_mut(&session)) {
            of.badly_signed += 1;
            if of.badly_signed >= BADLY_SIGNED_MAX {
                return self.offended(session, &reason);
            }
        }
        if !self.answer_refusal(session, header, refusal_code(refusal), &reason) {
            return;
        }
        self.event(Event::RunRefused { space: header.space, document: header.document, peer, by_us: true, reason });
    }

    /// Tells a peer that a run of its was refused, unless it has made us say too much already. Returns whether it was told.
    pub(super) fn answer_refusal(
        &mut self,
        id: SessionId,
        header: &RunHeader,
        code: RefusalCode,
        reason: &str,
    ) -> bool {
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.answers.has_left(now, ANSWERS)) else {
            return false;
        };
        session.answers.spend(REFUSAL_BYTES, now, ANSWERS);
        let Some((index, _)) = session.shared_in(&header.space) else { return false };
        let detail = reason.chars().take(PEER_TEXT_CHARS_MAX).collect();
        let message = Message::Refused {
            space: index,
            document: header.document,
            actor: header.actor,
            first_seq: header.first_seq,
            code,
            detail,
        };
        self.say(id, &message);
        if self.mutated.by(Mutant::TellsEveryone) {
            self.tell_everyone(&message);
        }
        true
    }

    fn tell_everyone(&mut self, refused: &Message) {
        let Message::Refused { document, actor, first_seq, code, detail, .. } = refused else { return };
        let everywhere: Vec<_> = self.sessions.iter().map(|(id, session)| (*id, session.shared.len())).collect();
        for (id, spaces) in everywhere {
            for space in 0..spaces as SpaceIndex {
                let detail = detail.clone();
                let (document, actor, first_seq, code) = (*document, *actor, *first_seq, *code);
                self.say(id, &Message::Refused { space, document, actor, first_seq, code, detail });
            }
        }
    }
}

fn refusal_code(refusal: &Refusal) -> RefusalCode {
    match refusal {
        Refusal::NotAWriter { .. } => RefusalCode::NotAWriter,
        Refusal::BadSignature => RefusalCode::BadSignature,
        Refusal::Malformed(_) => RefusalCode::Malformed,
        Refusal::TooLarge(_) => RefusalCode::TooLarge,
        Refusal::Misfit(_) | Refusal::Impossible { .. } => RefusalCode::Misfit,
        Refusal::Fork { .. } => RefusalCode::Fork,
        Refusal::Poisoned => RefusalCode::Poisoned,
    }
}
