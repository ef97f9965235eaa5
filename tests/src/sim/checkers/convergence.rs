//! I1 convergence: after the heal all members of a space hold the same documents with the same heads and content, and know
//! the same members.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::document::Path;
use anabranch_engine::id::{ChangeHash, DeviceId, DocumentId, SpaceId};
use anabranch_engine::space::roles::Role;

use crate::sim::Kind;
use crate::sim::workload::content_hash;
use crate::sim::world::World;

/// The checker's name.
pub const CHECKER: &str = "I1 convergence";

/// A space as one replica has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The replica.
    pub replica: usize,
    /// The space.
    pub space: SpaceId,
    /// Its root.
    pub root: [u8; 32],
    /// Its documents.
    pub documents: BTreeMap<DocumentId, Seen>,
    /// Its members.
    pub members: Vec<(DeviceId, Role)>,
}

/// A document as one replica has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Its heads.
    pub heads: Vec<ChangeHash>,
    /// Hash of its content.
    pub content: [u8; 32],
    /// Every change in it.
    pub changes: BTreeSet<ChangeHash>,
    /// Its counter.
    pub counter: Option<i64>,
    /// Its keys.
    pub keys: BTreeSet<String>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { replica: 0, space: SpaceId([0; 32]), root: [0; 32], documents: BTreeMap::new(), members: Vec::new() }
    }
}

/// Whether everyone runs, everyone who is to be a member is, and the roots, members and heads of all are equal. Cheap, so it
/// can be asked often. Says what is still missing.
///
/// # Errors
/// What is not equal yet.
pub fn settled(world: &mut World) -> Result<(), String> {
    if let Some(goal) = world.unreached_goals().into_iter().next() {
        return Err(goal);
    }
    let mut spaces: BTreeMap<SpaceId, Vec<Observed>> = BTreeMap::new();
    for replica in world.lasting().into_iter().filter(|replica| world.is_trustworthy(*replica)).collect::<Vec<_>>() {
        let member_of = world.ledger.spaces_of(replica);
        let Some(engine) = world.engine(replica) else { return Err(format!("#{replica} does not run")) };
        if let Some(reason) = engine.stopped() {
            return Err(format!("#{replica} has stopped: {reason}"));
        }
        let statuses = engine.spaces();
        if let Some(lost) = member_of.keys().find(|space| statuses.iter().all(|status| status.space != **space)) {
            return Err(format!("#{replica} does not have space {lost:.8} any more"));
        }
        for status in statuses {
            if !member_of.contains_key(&status.space) {
                continue;
            }
            for document in engine.documents(&status.space) {
                // What is in memory and in no commit yet is in no digest either.
                let current = engine.view(&status.space, &document, None).map(|view| view.heads());
                if current.is_ok_and(|heads| heads != engine.heads(&status.space, &document)) {
                    return Err(format!("#{replica} has changes of {document:.8} that it has not stored"));
                }
            }
            let members =
                engine.members(&status.space).into_iter().map(|member| (member.device, member.role)).collect();
            let documents = engine
                .documents(&status.space)
                .into_iter()
                .map(|document| {
                    let heads = engine.heads(&status.space, &document);
                    (document, Seen { heads, ..Seen::default() })
                })
                .collect();
            let observed = Observed { replica, space: status.space, root: status.root, documents, members };
            spaces.entry(status.space).or_default().push(observed);
        }
    }
    // What replicas themselves go by, where there are no forks: whether they are right is asked when all is open.
    let is_alike = |pair: &[Observed]| pair[0].root == pair[1].root && pair[0].members == pair[1].members;
    spaces.into_iter().try_for_each(|(space, observed)| {
        let alike = !world.has_forks(&space) && observed.windows(2).all(is_alike);
        if alike { Ok(()) } else { equal(&comparable(world, observed)) }
    })
}

/// Every space as each of its members has it, read from open documents.
///
/// # Errors
/// A document that is not open.
pub fn observe(world: &mut World) -> Result<Vec<Observed>, String> {
    let mut all = Vec::new();
    for replica in world.lasting().into_iter().filter(|replica| world.is_trustworthy(*replica)).collect::<Vec<_>>() {
        let member_of = world.ledger.spaces_of(replica);
        let Some(engine) = world.engine(replica) else { return Err(format!("#{replica} does not run")) };
        for status in engine.spaces() {
            let space = status.space;
            if !member_of.contains_key(&space) {
                continue;
            }
            let members = engine.members(&space).into_iter().map(|member| (member.device, member.role)).collect();
            let mut documents = BTreeMap::new();
            for document in engine.documents(&space) {
                let view = engine.view(&space, &document, None).map_err(|error| format!("#{replica}: {error}"))?;
                let seen = Seen {
                    heads: view.heads(),
                    content: content_hash(&view.json()),
                    changes: view.history().into_iter().map(|change| change.hash).collect(),
                    counter: view.get("/count").and_then(|count| count.as_i64()),
                    keys: view.keys(Path::root()).unwrap_or_default().into_iter().collect(),
                };
                documents.insert(document, seen);
            }
            all.push(Observed { replica, space, root: status.root, documents, members });
        }
    }
    Ok(comparable(world, all))
}

/// Leaves out what cannot be equal: documents in which somebody hostile made two histories of one actor, and the roots of
/// spaces with such documents. And documents of which a damaged disk has left nothing: others need not know of them.
fn comparable(world: &World, mut observed: Vec<Observed>) -> Vec<Observed> {
    for seen in &mut observed {
        let space = seen.space;
        let was_damaged = world.replicas[seen.replica].was_damaged;
        seen.documents
            .retain(|document, seen| !(was_damaged && seen.heads.is_empty() || world.is_forked(&(space, *document))));
        if world.has_forks(&space) {
            seen.root = [0; 32];
        }
    }
    observed
}

/// Compares a space as seen by several.
///
/// # Errors
/// The first difference.
pub fn equal(observed: &[Observed]) -> Result<(), String> {
    let Some((first, others)) = observed.split_first() else { return Ok(()) };
    for other in others {
        let (a, b) = (first.replica, other.replica);
        let space = first.space;
        if first.members != other.members {
            return Err(format!(
                "#{a} and #{b} know other members of {space:.8}: {:?}, {:?}",
                first.members, other.members
            ));
        }
        let of_both: BTreeSet<&DocumentId> = first.documents.keys().chain(other.documents.keys()).collect();
        for document in of_both {
            let (here, there) = (first.documents.get(document), other.documents.get(document));
            if here == there {
                continue;
            }
            let part = match (here, there) {
                (Some(here), Some(there)) if here.heads == there.heads => "content, though the heads are equal",
                _ => "heads",
            };
            let heads = |seen: Option<&Seen>| match seen {
                Some(seen) => seen.heads.iter().map(|head| format!("{head:.8}")).collect::<Vec<_>>().join(" "),
                None => "nothing".to_owned(),
            };
            return Err(format!(
                "document {document:.8} differs in {part}: #{a} has {}, #{b} has {}",
                heads(here),
                heads(there)
            ));
        }
        if first.root != other.root {
            return Err(format!("#{a} and #{b} hold the same in {space:.8} and have other roots"));
        }
    }
    Ok(())
}

/// Compares everything that was observed, space by space.
pub fn check(world: &mut World, observed: &[Observed]) {
    let spaces: BTreeSet<SpaceId> = observed.iter().map(|observed| observed.space).collect();
    for space in spaces {
        let of_space: Vec<Observed> = observed.iter().filter(|observed| observed.space == space).cloned().collect();
        if let Err(text) = equal(&of_space) {
            world.fail(Kind::Safety, CHECKER, format!("the roots were equal: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(replica: usize, head: u8, content: u8) -> Observed {
        let seen = Seen { heads: vec![ChangeHash([head; 32])], content: [content; 32], ..Seen::default() };
        Observed { replica, documents: [(DocumentId([1; 16]), seen)].into(), ..Observed::default() }
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        assert_eq!(equal(&[observed(0, 1, 1), observed(1, 1, 1)]), Ok(()));
        assert!(equal(&[observed(0, 1, 1), observed(1, 2, 1)]).unwrap_err().contains("differs in heads"));
        assert!(equal(&[observed(0, 1, 1), observed(1, 1, 2)]).unwrap_err().contains("differs in content"));
        let mut fewer = observed(1, 1, 1);
        fewer.documents.clear();
        assert!(equal(&[observed(0, 1, 1), fewer]).unwrap_err().contains("#1 has nothing"));
        let mut stranger = observed(1, 1, 1);
        stranger.members.push((DeviceId([9; 32]), Role::Reader));
        assert!(equal(&[observed(0, 1, 1), stranger]).unwrap_err().contains("other members"));
        let mut root = observed(1, 1, 1);
        root.root = [5; 32];
        assert!(equal(&[observed(0, 1, 1), root]).unwrap_err().contains("other roots"));
    }
}
