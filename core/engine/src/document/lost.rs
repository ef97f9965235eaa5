//! Edits that nobody sees: they went into something that another removed or replaced at the same time. Each replica finds the
//! same ones, from the history alone. Whoever has seen both and writes at that place again settles it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use automerge as am;
use automerge::ReadDoc;
use automerge::legacy::{Key, ObjectId, OpId, OpType};
use serde_json::Value as Json;

use crate::document::history::{Change, History};
use crate::document::json;
use crate::document::path::Path;
use crate::id::{ActorId, ChangeHash, DeviceId};
use crate::limits::DEPTH_MAX;

/// Lost edits that are listed at most, the earliest first.
pub const LOST_EDITS_MAX: usize = 1_000;
/// Removals of things that others have edited that are looked at. Each costs a walk over the history.
const REMOVALS_MAX: usize = 4_096;
/// Of all removals together, how many changes it is noted of whether they were made at the same time: a byte each.
const REMEMBERED_MAX: usize = 64 * 1024 * 1024;

/// An edit that is in the history and not in the content.
#[derive(Clone, Debug, PartialEq)]
pub struct LostEdit {
    /// What was edited, as its author saw it.
    pub path: Path,
    /// What it said after the edit; nothing if the edit removed it.
    pub value: Option<Json>,
    /// Who edited.
    pub by: Writer,
    /// Who removed or replaced what was edited, or something that holds it.
    pub removed_by: Writer,
    /// Where to write to settle it.
    pub(crate) place: Gap,
}

/// Where something was that is gone: a key of a map, or a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gap {
    pub object: am::ObjId,
    /// `None` in a list.
    pub key: Option<String>,
}

/// Who made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The change.
    pub change: ChangeHash,
    /// Its actor.
    pub actor: ActorId,
    /// The device that vouches for the actor.
    pub device: Option<DeviceId>,
}

/// A place in an object: a key of a map, or anywhere in a list or text. `None` is the root.
type Place = (Option<OpId>, Option<String>);

/// An object or a counter.
struct Thing {
    /// Where it is.
    place: Place,
    /// The change that made it.
    made: usize,
    /// The changes that removed or replaced it, each with what is there instead.
    ended: Vec<(usize, Option<OpId>)>,
    is_counter: bool,
}

/// A change that removed a thing.
#[derive(Clone, Copy)]
struct Removal<'a> {
    remover: usize,
    thing: &'a Thing,
}

/// What is to be known of the history.
#[derive(Default)]
struct Past {
    changes: Vec<(ChangeHash, ActorId)>,
    /// By index, always of earlier changes.
    deps: Vec<Vec<usize>>,
    things: BTreeMap<OpId, Thing>,
    /// Where each change wrote.
    writes: BTreeSet<(usize, Place)>,
}

/// The lost edits up to a version.
pub(crate) fn find(history: &History, at: Option<&[am::ChangeHash]>) -> Vec<LostEdit> {
    let hidden: BTreeSet<ChangeHash> = match at {
        None => BTreeSet::new(),
        Some(heads) => history.since(heads).iter().map(Change::hash).collect(),
    };
    let mut past = Past::default();
    let mut indexes = BTreeMap::new();
    for change in history.since(&[]) {
        let hash = change.hash();
        let Some(actor) = change.actor().filter(|_| !hidden.contains(&hash)) else { continue };
        past.deps.push(change.deps().filter_map(|dep| indexes.get(&dep).copied()).collect());
        indexes.insert(hash, past.changes.len());
        past.changes.push((hash, actor));
        past.read(&change.0);
    }
    past.lost(history)
}

impl Past {
    /// Takes note of the last change's operations.
    fn read(&mut self, change: &am::Change) {
        let index = self.changes.len() - 1;
        let decoded = change.decode();
        for (counter, op) in (decoded.start_op.get()..).zip(decoded.operations) {
            let id = OpId(counter, decoded.actor_id.clone());
            let is_counter = matches!(op.action, OpType::Put(am::ScalarValue::Counter(_)));
            let is_thing = is_counter || matches!(op.action, OpType::Make(_));
            let increments = matches!(op.action, OpType::Increment(_));
            for replaced in op.pred.iter() {
                let Some(thing) = self.things.get_mut(replaced) else { continue };
                match increments {
                    true => _ = self.writes.insert((index, (Some(replaced.clone()), None))),
                    false => thing.ended.push((index, is_thing.then(|| id.clone()))),
                }
            }
            let object = match op.obj {
                ObjectId::Root => None,
                ObjectId::Id(object) => Some(object),
            };
            let key = match op.key {
                Key::Map(key) => Some(key.to_string()),
                Key::Seq(_) => None,
            };
            let place = (object, key);
            if is_thing {
                let thing = Thing { place: place.clone(), made: index, ended: Vec::new(), is_counter };
                self.things.insert(id, thing);
            }
            if !increments {
                self.writes.insert((index, place));
            }
        }
    }

    fn lost(&self, history: &History) -> Vec<LostEdit> {
        let mut concurrent = BTreeMap::new();
        let mut lost = Vec::new();
        for (change, place) in &self.writes {
            if lost.len() == LOST_EDITS_MAX {
                break;
            }
            // What a change puts into what it made itself goes with that.
            let made_here = |id: &OpId| self.things.get(id).is_some_and(|thing| thing.made == *change);
            if place.0.as_ref().is_none_or(made_here) {
                continue;
            }
            if let Some(removal) = self.removal(*change, place, &mut concurrent)
                && let Some(edit) = self.tell(history, *change, place, removal)
            {
                lost.push(edit);
            }
        }
        lost
    }

    /// What removed or replaced, at the same time, something that another wrote into, and is not settled. Of several things, one in
    /// the other, the outermost counts: what is inside it cannot be written to any more.
    fn removal(
        &self,
        change: usize,
        place: &Place,
        concurrent: &mut BTreeMap<usize, Vec<bool>>,
    ) -> Option<Removal<'_>> {
        let mut outermost = None;
        let mut inside = place.0.as_ref();
        for _ in 0..=DEPTH_MAX {
            let Some(thing) = inside.and_then(|id| self.things.get(id)) else { break };
            let mut unsettled = None;
            let mut at_once = false;
            for (remover, instead) in &thing.ended {
                if !concurrent.contains_key(remover) {
                    if concurrent.len() == REMOVALS_MAX || concurrent.len() * self.changes.len() > REMEMBERED_MAX {
                        return None;
                    }
                    concurrent.insert(*remover, self.concurrent_with(*remover));
                }
                if !concurrent.get(remover).is_some_and(|with| with[change]) {
                    if *remover > change {
                        // Whoever did that had seen the edit.
                        return None;
                    }
                    continue;
                }
                at_once = true;
                if unsettled.is_none() && !self.is_settled(change, *remover, thing, instead.as_ref()) {
                    unsettled = Some(Removal { remover: *remover, thing });
                }
            }
            if at_once {
                outermost = unsettled;
            }
            inside = thing.place.0.as_ref();
        }
        outermost
    }

    /// Which changes neither saw this one nor were seen by it.
    fn concurrent_with(&self, change: usize) -> Vec<bool> {
        let mut apart = vec![true; self.changes.len()];
        let mut seen = vec![change];
        while let Some(next) = seen.pop() {
            if core::mem::take(&mut apart[next]) {
                seen.extend(&self.deps[next]);
            }
        }
        let mut later = vec![false; self.changes.len()];
        later[change] = true;
        for at in change + 1..later.len() {
            later[at] = self.deps[at].iter().any(|dep| later[*dep]);
            apart[at] &= !later[at];
        }
        apart
    }

    /// Whether somebody who has seen both has written there since.
    fn is_settled(&self, change: usize, remover: usize, thing: &Thing, instead: Option<&OpId>) -> bool {
        // What came to the same key of a map, now or later, counts as that place.
        let took_its_place = |object: &OpId| {
            Some(object) == instead
                || (thing.place.1.is_some() && self.things.get(object).is_some_and(|other| other.place == thing.place))
        };
        let is_there = |place: &Place| *place == thing.place || place.0.as_ref().is_some_and(took_its_place);
        let after = change.max(remover) + 1;
        let mut places = self.writes.range((after, (None, None))..).filter(|(_, place)| is_there(place));
        places.any(|(at, _)| self.sees(*at, change) && self.sees(*at, remover))
    }

    fn sees(&self, change: usize, earlier: usize) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![change]);
        while let Some(at) = open.pop() {
            if at == earlier {
                return true;
            }
            if at > earlier && seen.insert(at) {
                open.extend(&self.deps[at]);
            }
        }
        false
    }

    fn tell(&self, history: &History, change: usize, place: &Place, removal: Removal<'_>) -> Option<LostEdit> {
        let doc = history.automerge();
        let at = [am::ChangeHash(self.changes[change].0.0)];
        let id = place.0.as_ref()?;
        let thing = self.things.get(id)?;
        // A counter is found where it is, another thing by itself.
        let (object, key) = match thing.is_counter {
            true => (thing.place.0.as_ref(), thing.place.1.as_ref()),
            false => (Some(id), place.1.as_ref()),
        };
        let object = object.map_or(am::ROOT, object_id);
        let mut path = Path::root();
        for (_, prop) in doc.parents_at(&object, &at).ok()?.path() {
            match prop {
                am::Prop::Map(key) => path.push(key),
                am::Prop::Seq(index) => path.push_index(index),
            }
        }
        let depth = path.parts().len();
        let value = match key {
            Some(key) => {
                path.push(key.clone());
                let found = doc.get_at(&object, key.as_str(), &at).ok()?;
                found.map(|(value, id)| json::found_out(doc, Some(&at), &value, &id, depth + 1))
            }
            None => {
                let kind = doc.object_type(&object).ok()?;
                Some(json::object_out(doc, Some(&at), &object, kind, depth))
            }
        };
        let (gone, key) = &removal.thing.place;
        Some(LostEdit {
            path,
            value,
            by: self.writer(history, change),
            removed_by: self.writer(history, removal.remover),
            place: Gap { object: gone.as_ref().map_or(am::ROOT, object_id), key: key.clone() },
        })
    }

    fn writer(&self, history: &History, index: usize) -> Writer {
        let (change, actor) = self.changes[index];
        Writer { change, actor, device: history.device(&actor) }
    }
}

fn object_id(id: &OpId) -> am::ObjId {
    am::ObjId::Id(id.0, id.1.clone(), 0)
}
