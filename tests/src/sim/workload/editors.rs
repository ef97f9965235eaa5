//! Editors: what an application lets tabs and remote clients do, each at the version that it has seen.

use anabranch_engine::document::{Edit, Editor};
use anabranch_engine::id::ChangeHash;
use anabranch_engine::storage::CommitId;
use anabranch_engine::{DocumentError, Engine};

use super::{Did, change_something, content_hash};
use crate::sim::Kind;
use crate::sim::checkers::{actors, authorised, sessions};
use crate::sim::dice::Dice;
use crate::sim::ledger::{Edited, Place};
use crate::sim::world::World;

/// Tabs that an application has open for one document.
const TABS_MAX: usize = 3;

/// One of them. It ends with its process.
pub struct Tab {
    editor: Editor,
    seen: Vec<ChangeHash>,
    /// Its last change.
    last: Option<ChangeHash>,
}

impl World {
    /// A tab of a document that is open edits at what it has seen.
    pub(super) fn edit_in_tab(&mut self, replica: usize, dice: &mut Dice) {
        let Some(any) = self.some_open(replica, dice) else { return };
        let at = self.now;
        let Some(process) = self.replicas[replica].process.as_mut() else { return };
        // Mostly one of those that have seen something before.
        let earlier: Vec<Place> = process.tabs.keys().filter(|place| process.has_open(place)).copied().collect();
        let place = dice.pick(&earlier).copied().filter(|_| dice.percent(80)).unwrap_or(any);
        let now_read = heads(&process.engine, place);
        let tabs = process.tabs.entry(place).or_default();
        if tabs.len() < TABS_MAX && dice.percent(20) || tabs.is_empty() {
            match process.engine.editor(&place.0, &place.1) {
                Ok(editor) => tabs.push(Tab { editor, seen: now_read.clone(), last: None }),
                Err(error) => return self.tab_refused(replica, place, &error),
            }
        }
        let mut tab = tabs.swap_remove(dice.index(tabs.len()));
        // Few versions reach it at once.
        if dice.percent(30) {
            tab.seen.clone_from(&now_read);
        }
        let now = process.clock.read(at);
        let edited =
            process.engine.edit_at(now, &mut tab.editor, &tab.seen, |edit| change_something(edit, dice, false));
        let before: Vec<ChangeHash> = tab.seen.iter().chain(&tab.last).copied().collect();
        match edited {
            Ok(_) if !self.may_write(replica, place.0) => {
                let text = format!("#{replica} is a reader and edited {:.8} in a tab", place.1);
                self.fail(Kind::Safety, authorised::CHECKER, text);
            }
            Ok((_, None)) => self.keep_tab(replica, place, tab),
            Ok(((did, after), Some(commit))) => {
                if now_read.iter().any(|head| !before.contains(head)) {
                    self.stats.edits_behind += 1;
                }
                tab.last = after.first().copied();
                self.edited_in_tab(replica, place, &before, &after, did, commit);
                self.keep_tab(replica, place, tab);
            }
            // It is opened again when it is needed.
            Err(error) => self.tab_refused(replica, place, &error),
        }
        self.drain(replica);
    }

    /// Has an editor edit at a version. Nothing is written down.
    pub fn edit_at(
        &mut self,
        replica: usize,
        editor: &mut Editor,
        seen: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<(), DocumentError>,
    ) -> Result<Vec<ChangeHash>, DocumentError> {
        let at = self.now;
        let process = self.replicas[replica].process.as_mut();
        let process = process.ok_or_else(|| DocumentError::Stopped("it does not run".to_owned()))?;
        let edited = process.engine.edit_at(process.clock.read(at), editor, seen, f);
        self.drain(replica);
        edited.map(|(((), heads), _)| heads)
    }

    fn keep_tab(&mut self, replica: usize, place: Place, tab: Tab) {
        if let Some(process) = self.replicas[replica].process.as_mut() {
            process.tabs.entry(place).or_default().push(tab);
        }
    }

    /// Writes down what a tab did that had seen `before`, and sees `after` now.
    fn edited_in_tab(
        &mut self,
        replica: usize,
        place: Place,
        before: &[ChangeHash],
        after: &[ChangeHash],
        did: Did,
        commit: CommitId,
    ) {
        let Some(process) = &self.replicas[replica].process else { return };
        let number = process.number;
        let view = process.engine.view(&place.0, &place.1, Some(after)).ok();
        let made = view.as_ref().and_then(|view| after.first().and_then(|hash| view.change(hash)));
        let content = view.map(|view| content_hash(&view.json()));
        let (Some(made), Some(content)) = (made, content) else {
            let text = format!("#{replica} edited {:.8} in a tab, and there is no {after:?}", place.1);
            return self.fail(Kind::Safety, sessions::CHECKER, text);
        };
        // automerge adds an actor's last change, which may lie far below.
        let seen = process.engine.view(&place.0, &place.1, Some(before)).map(|view| view.history()).unwrap_or_default();
        let is_seen = |hash: &ChangeHash| seen.iter().any(|change| change.hash == *hash);
        if let Some(more) = made.deps.iter().find(|dep| !is_seen(dep)) {
            let text = format!(
                "#{replica} edited {:.8} in a tab: {:.8} depends on {more:.8}, which that had not seen",
                place.1, made.hash
            );
            return self.fail(Kind::Safety, sessions::CHECKER, text);
        }
        self.watch.causality.note(&made);
        self.stats.edits += 1;
        self.trace.note(self.now, Some(replica), &format!("edited {:.8} in a tab: {:.8}", place.1, made.hash));
        let edited = Edited { place, change: made.hash, increment: did.increment, content, wrote: did.wrote };
        self.ledger.edited(replica, commit, edited, (made.actor, made.seq));
        if !self.expects_forks
            && let Err(text) = self.registry.produced(replica, number, place, &made)
        {
            self.fail(Kind::Safety, actors::CHECKER, text);
        }
    }

    /// A tab's edit came to nothing. That has to have a reason.
    fn tab_refused(&mut self, replica: usize, place: Place, error: &DocumentError) {
        if !self.is_expected_refusal(replica, &place, error) {
            let text = format!("#{replica}: an edit of {:.8} in a tab was refused: {error}", place.1);
            self.fail(Kind::Safety, "tabs", text);
        }
    }
}

fn heads(engine: &Engine, place: Place) -> Vec<ChangeHash> {
    engine.view(&place.0, &place.1, None).map(|view| view.heads()).unwrap_or_default()
}
