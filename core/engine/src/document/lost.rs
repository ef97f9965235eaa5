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
/// Of all removals together, how many changes it is noted of how they stand to them: a byte each.
const REMEMBERED_MAX: usize = 64 * 1024 * 1024;
/// Changes that are looked at in all, to see what settles an edit: about a second. What an honest history holds takes a small
/// part of it.
const LOOKS_MAX: usize = 100_000_000;
/// To tell of an edit where it was and what it said takes about as long as so many of these.
const TELLING_LOOKS: usize = 1_000;
/// Gaps of which it is kept what settles the edits in them, as one typist's edits of one time mostly have the same.
const SETTLED_KEPT: usize = 16;

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

/// How a change stands to a removal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// It was seen by whoever removed.
    Before,
    /// Neither saw the other.
    AtOnce,
    /// It saw the removal, or is that.
    After,
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

/// The search for lost edits, and what it has found out on the way.
struct Search<'a> {
    past: &'a Past,
    /// Which changes wrote at a place, the earliest first.
    writers: BTreeMap<(Option<&'a OpId>, Option<&'a str>), Vec<usize>>,
    /// The things that are or were at the same key of a map.
    things_at: BTreeMap<&'a Place, Vec<&'a OpId>>,
    /// How all changes stand to a removal.
    orders: BTreeMap<usize, Vec<Order>>,
    /// By thing and removal, which changes are settled.
    settled: BTreeMap<(&'a OpId, usize), Vec<bool>>,
    /// Changes looked at so far.
    looks: usize,
}

/// The lost edits up to a version, at or below a path.
pub(crate) fn find(history: &History, at: Option<&[am::ChangeHash]>, below: &Path) -> Vec<LostEdit> {
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
    Search::new(&past).lost(history, below)
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

    /// How all changes stand to this one.
    fn orders(&self, change: usize) -> Vec<Order> {
        let mut orders = vec![Order::AtOnce; self.changes.len()];
        let mut seen = vec![change];
        while let Some(next) = seen.pop() {
            if core::mem::replace(&mut orders[next], Order::Before) != Order::Before {
                seen.extend(&self.deps[next]);
            }
        }
        orders[change] = Order::After;
        for at in change + 1..orders.len() {
            if self.deps[at].iter().any(|dep| orders[*dep] == Order::After) {
                orders[at] = Order::After;
            }
        }
        orders
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

impl<'a> Search<'a> {
    fn new(past: &'a Past) -> Self {
        let mut search = Self {
            past,
            writers: BTreeMap::new(),
            things_at: BTreeMap::new(),
            orders: BTreeMap::new(),
            settled: BTreeMap::new(),
            looks: 0,
        };
        for (change, (object, key)) in &past.writes {
            search.writers.entry((object.as_ref(), key.as_deref())).or_default().push(*change);
        }
        for (id, thing) in past.things.iter().filter(|(_, thing)| thing.place.1.is_some()) {
            search.things_at.entry(&thing.place).or_default().push(id);
        }
        search
    }

    fn lost(&mut self, history: &History, below: &Path) -> Vec<LostEdit> {
        let past = self.past;
        let mut lost = Vec::new();
        for (change, place) in &past.writes {
            if lost.len() == LOST_EDITS_MAX || self.looks > LOOKS_MAX {
                break;
            }
            // What a change puts into what it made itself goes with that.
            let made_here = |id: &OpId| past.things.get(id).is_some_and(|thing| thing.made == *change);
            if place.0.as_ref().is_none_or(made_here) {
                continue;
            }
            if let Some(removal) = self.removal(*change, place) {
                self.looks += TELLING_LOOKS;
                let edit = past.tell(history, *change, place, removal);
                lost.extend(edit.filter(|edit| edit.path.parts().starts_with(below.parts())));
            }
        }
        lost
    }

    /// What removed or replaced, at the same time, something that another wrote into, and is not settled. Of several things, one in
    /// the other, the outermost counts: what is inside it cannot be written to any more.
    fn removal(&mut self, change: usize, place: &'a Place) -> Option<Removal<'a>> {
        let past = self.past;
        let mut outermost = None;
        let mut inside = place.0.as_ref();
        for _ in 0..=DEPTH_MAX {
            let Some((id, thing)) = inside.and_then(|id| Some((id, past.things.get(id)?))) else { break };
            let mut unsettled = None;
            let mut at_once = false;
            for (remover, instead) in &thing.ended {
                self.looks += 1;
                match self.order(change, *remover)? {
                    // Whoever did that had seen the edit.
                    Order::Before => return None,
                    Order::After => continue,
                    Order::AtOnce => at_once = true,
                }
                if unsettled.is_none() && !self.is_settled(change, *remover, id, thing, instead.as_ref()) {
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

    /// How a change stands to a removal; `None` where too many removals were looked at.
    fn order(&mut self, change: usize, remover: usize) -> Option<Order> {
        if !self.orders.contains_key(&remover) {
            let count = self.orders.len();
            if count == REMOVALS_MAX || count * self.past.changes.len() > REMEMBERED_MAX {
                return None;
            }
            self.orders.insert(remover, self.past.orders(remover));
        }
        Some(self.orders.get(&remover)?[change])
    }

    /// Whether somebody who has seen both has written there since.
    fn is_settled(
        &mut self,
        change: usize,
        remover: usize,
        id: &'a OpId,
        thing: &Thing,
        instead: Option<&OpId>,
    ) -> bool {
        if let Some(settled) = self.settled.get(&(id, remover)) {
            return settled[change];
        }
        let settled = self.settled_by(remover, thing, instead);
        let is_settled = settled[change];
        if self.settled.len() == SETTLED_KEPT {
            self.settled.clear();
        }
        self.settled.insert((id, remover), settled);
        is_settled
    }

    /// Of each change, whether somebody who had seen it and the removal has written there since.
    fn settled_by(&mut self, remover: usize, thing: &Thing, instead: Option<&OpId>) -> Vec<bool> {
        let mut settled = vec![false; self.past.changes.len()];
        let Some(orders) = self.orders.get(&remover) else { return settled };
        // What came to the same key of a map, now or later, counts as that place.
        let in_its_place = self.things_at.get(&thing.place).into_iter().flatten().copied().chain(instead);
        let inside = in_its_place.flat_map(|object| {
            let all = self.writers.range((Some(object), None)..);
            all.take_while(move |((within, _), _)| *within == Some(object)).map(|(_, writers)| writers)
        });
        let there = self.writers.get(&(thing.place.0.as_ref(), thing.place.1.as_deref()));
        let mut open = Vec::new();
        for writers in there.into_iter().chain(inside) {
            self.looks += 1 + writers.len();
            open.extend(writers.iter().copied().filter(|at| orders[*at] == Order::After));
        }
        while let Some(at) = open.pop() {
            self.looks += 1;
            if !core::mem::replace(&mut settled[at], true) {
                open.extend(&self.past.deps[at]);
            }
        }
        settled
    }
}

fn object_id(id: &OpId) -> am::ObjId {
    am::ObjId::Id(id.0, id.1.clone(), 0)
}
