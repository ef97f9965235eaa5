//! I14 authorised only: a walk over every replica's store at the end of a seed. Every run in it (of a store that was damaged:
//! every one that is part of its document) is signed by the device that it names, for exactly the changes it holds, and that
//! device was a writer in the membership that the run stands on, as the reference resolver sees it. The engine's own gate and
//! resolver have no part in this.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::id::{AclHash, ChangeHash, DeviceId, EntryHash, SpaceId};
use anabranch_engine::run::Run;
use anabranch_engine::space::membership::acl_hash;
use anabranch_engine::space::membership::reference::Reference;
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::{RunKey, Table, parse_run_key};

/// The checker's name.
pub const CHECKER: &str = "I14 authorised only";

/// A store's rows: table, key, value.
pub type Row = (Table, Vec<u8>, Vec<u8>);

/// What was found out so far: what several replicas have is looked at once.
#[derive(Debug, Default)]
pub struct Audit {
    /// By hash of the run's row; which changes it holds.
    runs: BTreeMap<[u8; 32], BTreeSet<ChangeHash>>,
    /// By space and hash over its entries.
    logs: BTreeMap<(SpaceId, [u8; 32]), Reference>,
    /// Who had which role, by log and acl.
    states: BTreeMap<(SpaceId, [u8; 32], AclHash), BTreeMap<DeviceId, Role>>,
}

/// What a store says of its members.
struct Lists<'a> {
    logs: &'a BTreeMap<SpaceId, [u8; 32]>,
    acls: &'a BTreeMap<(SpaceId, AclHash), Vec<EntryHash>>,
}

impl Audit {
    /// Walks over a store, and returns every change of a document in it. `salvaged` is whose store it is, if a damaged disk may have lost the
    /// members that runs of its own stand on: such a run is there by its signature alone. `renewed` is whose store it is, if its key was
    /// renewed: what it wrote before it was let in is signed again for others.
    ///
    /// # Errors
    /// The first run that should not be there.
    pub fn walk(
        &mut self,
        rows: &[Row],
        salvaged: Option<DeviceId>,
        renewed: Option<DeviceId>,
    ) -> Result<BTreeSet<ChangeHash>, String> {
        let logs = self.read_logs(rows, salvaged.is_some())?;
        let mut acls: BTreeMap<(SpaceId, AclHash), Vec<EntryHash>> = BTreeMap::new();
        for (_, key, value) in rows.iter().filter(|(table, _, _)| *table == Table::AclRefs) {
            let (space, hash) = split(key).ok_or("an acl_ref with a key that is none")?;
            let entries: Vec<EntryHash> = minicbor::decode(value).map_err(|error| format!("an acl_ref: {error}"))?;
            acls.insert((space, AclHash(hash)), entries);
        }
        let mut records = BTreeMap::new();
        for (_, key, value) in rows.iter().filter(|(table, _, _)| *table == Table::Documents) {
            let (space, document) = super::place_of(key).ok_or("a record with a key that is none")?;
            let record = DocumentRecord::decode_stored(space, document, value).map_err(|error| error.to_string())?;
            records.insert((space, document), record);
        }
        let mut changes = BTreeSet::new();
        for (_, key, value) in rows.iter().filter(|(table, _, _)| *table == Table::Runs) {
            let at = parse_run_key(key).ok_or("a run with a key that is none")?;
            // What a mending left in the store is no part of anything, whoever signed it.
            let record = records.get(&(at.space, at.document));
            if salvaged.is_none() || record.is_some_and(|record| record.names(&at.actor, at.last_seq)) {
                changes.extend(self.run(&at, key, value, &Lists { logs: &logs, acls: &acls }, salvaged, renewed)?);
            }
        }
        Ok(changes)
    }

    /// Entries that lead to one that damage took count nowhere.
    fn read_logs(&mut self, rows: &[Row], salvaged: bool) -> Result<BTreeMap<SpaceId, [u8; 32]>, String> {
        let mut entries: BTreeMap<SpaceId, Vec<&[u8]>> = BTreeMap::new();
        for (_, key, value) in rows.iter().filter(|(table, _, _)| *table == Table::Members) {
            let (space, _) = split(key).ok_or("a membership entry with a key that is none")?;
            entries.entry(space).or_default().push(value);
        }
        let mut logs = BTreeMap::new();
        for (space, entries) in entries {
            let mut hasher = blake3::Hasher::new();
            entries.iter().for_each(|entry| _ = hasher.update(&(entry.len() as u64).to_be_bytes()).update(entry));
            let hash = *hasher.finalize().as_bytes();
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.logs.entry((space, hash)) {
                vacant.insert(Reference::read(space, entries).map_err(|error| format!("space {space:.8}: {error}"))?);
            }
            if let Some(missing) = self.logs[&(space, hash)].missing().filter(|_| !salvaged) {
                return Err(format!("space {space:.8}: an entry stands on {missing}, which is not stored"));
            }
            logs.insert(space, hash);
        }
        Ok(logs)
    }

    fn run(
        &mut self,
        at: &RunKey,
        key: &[u8],
        value: &[u8],
        lists: &Lists<'_>,
        salvaged: Option<DeviceId>,
        renewed: Option<DeviceId>,
    ) -> Result<BTreeSet<ChangeHash>, String> {
        let run = Run::decode_stored(at.space, at.document, at.actor, at.last_seq, value)
            .map_err(|error| error.to_string())?;
        let header = &run.header;
        let wrong = |what: String| {
            let (document, device) = (header.document, header.device);
            let (first, last) = (header.first_seq, header.last_seq);
            format!("run {first}..{last} of {document:.8} by device {device:.8}: {what}")
        };
        // Who may do what depends on the replica's log, what is in the run does not.
        let acl = lists.acls.get(&(at.space, header.acl)).filter(|entries| acl_hash(entries) == header.acl);
        let reference = lists.logs.get(&at.space).map(|log| &self.logs[&(at.space, *log)]);
        let knows_members =
            reference.zip(acl).is_some_and(|(reference, acl)| acl.iter().all(|entry| reference.has(entry)));
        if knows_members || salvaged != Some(header.device) {
            let acl = acl.ok_or_else(|| wrong("it stands on members that are not stored".to_owned()))?;
            let log = lists.logs.get(&at.space).ok_or_else(|| wrong("its space has no members".to_owned()))?;
            let reference = &self.logs[&(at.space, *log)];
            if let Some(entry) = acl.iter().find(|entry| !reference.has(entry)) {
                return Err(wrong(format!("it stands on {entry}, which is not in the log")));
            }
            let state = self.states.entry((at.space, *log, header.acl)).or_insert_with(|| reference.state(acl));
            let role = state.get(&header.device);
            if !role.is_some_and(|role| role.can_write()) && renewed != Some(header.device) {
                return Err(wrong(format!("it was no writer there, but {role:?}")));
            }
        }
        let id = *blake3::Hasher::new().update(key).update(value).finalize().as_bytes();
        if let Some(changes) = self.runs.get(&id) {
            return Ok(changes.clone());
        }
        if !header.verify() {
            return Err(wrong("its signature does not hold".to_owned()));
        }
        let changes = read_changes(&run).map_err(wrong)?;
        self.runs.insert(id, changes.clone());
        Ok(changes)
    }
}

/// The changes of a run, read by automerge itself: those that the header speaks of, and no others.
fn read_changes(run: &Run) -> Result<BTreeSet<ChangeHash>, String> {
    let header = &run.header;
    let mut changes = BTreeSet::new();
    let mut rest = &run.payload[..];
    let (mut seq, mut tip) = (header.first_seq, None);
    while !rest.is_empty() {
        // The length stands behind magic, checksum and type.
        let (length, digits) = leb128(rest.get(9..).unwrap_or_default()).ok_or("a change that is cut short")?;
        let (change, tail) = rest.split_at_checked(9 + digits + length).ok_or("a change that is cut short")?;
        let change = automerge::Change::from_bytes(change.to_vec()).map_err(|error| error.to_string())?;
        if change.actor_id().to_bytes() != header.actor.0 || change.seq() != seq {
            return Err(format!("it holds change {} of actor {}", change.seq(), change.actor_id()));
        }
        tip = Some(ChangeHash(change.hash().0));
        changes.extend(tip);
        (rest, seq) = (tail, seq + 1);
    }
    if seq != header.last_seq + 1 || tip != Some(header.tip) {
        return Err("it holds other changes than were signed".to_owned());
    }
    Ok(changes)
}

fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

fn split(key: &[u8]) -> Option<(SpaceId, [u8; 32])> {
    let (space, hash) = key.split_first_chunk()?;
    Some((SpaceId(*space), hash.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_engine::frontier::Proof;
    use anabranch_engine::id::{ActorId, DocumentId};
    use anabranch_engine::keys::SecretKey;
    use anabranch_engine::run::UnsignedRun;
    use anabranch_engine::space::membership::Membership;
    use anabranch_engine::storage::{document_key, run_key, space_hash_key};
    use automerge::transaction::Transactable;

    /// A store with one run, by the founder or by somebody else, standing on the founding or on nothing.
    fn store(signer: &SecretKey, stands_on_founding: bool, damage: impl FnOnce(&mut Run)) -> Vec<Row> {
        let founder = SecretKey::from_seed(&[1; 32]);
        let (space, _, genesis) = Membership::found(&founder, "space", [0; 16]).unwrap();
        let entries: Vec<EntryHash> = stands_on_founding.then_some(genesis.hash).into_iter().collect();
        let acl = acl_hash(&entries);
        let mut document = automerge::AutoCommit::new().with_actor(automerge::ActorId::from([7; 16]));
        document.put(automerge::ROOT, "key", 1).unwrap();
        let hash = document.commit().unwrap();
        let payload = document.get_change_by_hash(&hash).unwrap().raw_bytes().to_vec();
        let actor = ActorId([7; 16]);
        let unsigned = UnsignedRun { actor, first_seq: 1, last_seq: 1, tip: ChangeHash(hash.0), payload };
        let mut run = Run::sign(signer, space, DocumentId([2; 16]), acl, unsigned);
        damage(&mut run);
        let mut record = DocumentRecord { heads: vec![run.header.tip], ..DocumentRecord::default() };
        record.frontier.accept(Proof { header: run.header.clone(), first_lamport: 1, lamport: 1 });
        let key = run_key(&space, &DocumentId([2; 16]), 1, &actor, 1);
        vec![
            (Table::Members, space_hash_key(&space, &genesis.hash.0), genesis.bytes),
            (Table::AclRefs, space_hash_key(&space, &acl.0), minicbor::to_vec(entries).unwrap()),
            (Table::Runs, key, run.encode_stored()),
            (Table::Documents, document_key(&space, &DocumentId([2; 16])), record.encode_stored()),
        ]
    }

    #[test]
    fn runs_that_nobody_was_allowed_to_make_are_seen() {
        let founder = SecretKey::from_seed(&[1; 32]);
        let stranger = SecretKey::from_seed(&[9; 32]);
        let walk = |rows: Vec<Row>| Audit::default().walk(&rows, None, None);
        assert_eq!(walk(store(&founder, true, |_| ())).unwrap().len(), 1);
        assert!(walk(store(&founder, false, |_| ())).unwrap_err().contains("no writer"));
        assert!(walk(store(&stranger, true, |_| ())).unwrap_err().contains("no writer"));
        let forged = walk(store(&founder, true, |run| run.header.signature[0] ^= 1));
        assert!(forged.unwrap_err().contains("signature"));
        let another = walk(store(&founder, true, |run| *run.payload.last_mut().unwrap() ^= 1));
        assert!(another.is_err(), "the payload is not what was signed");
        let mut without = store(&founder, true, |_| ());
        without.remove(1);
        assert!(walk(without.clone()).unwrap_err().contains("not stored"));
        let salvaged = |device| Audit::default().walk(&without, Some(device), None);
        assert_eq!(salvaged(founder.device()).map(|changes| changes.len()), Ok(1), "its own");
        assert!(salvaged(stranger.device()).unwrap_err().contains("not stored"));
        without.retain(|(table, ..)| *table != Table::Documents);
        assert!(walk(without.clone()).unwrap_err().contains("not stored"));
        let left = Audit::default().walk(&without, Some(stranger.device()), None);
        assert_eq!(left, Ok(BTreeSet::new()), "it is no part of a document");
    }

    #[test]
    fn an_entry_that_stands_on_one_that_is_gone_is_seen() {
        let founder = SecretKey::from_seed(&[1; 32]);
        let (space, membership, _) = Membership::found(&founder, "space", [0; 16]).unwrap();
        let invite = membership.invite(&founder, founder.device(), Role::Writer, 1, [1; 16]).unwrap();
        let rows = [(Table::Members, space_hash_key(&space, &invite.hash.0), invite.bytes)];
        assert!(Audit::default().walk(&rows, None, None).unwrap_err().contains("not stored"));
        assert_eq!(Audit::default().walk(&rows, Some(founder.device()), None), Ok(BTreeSet::new()), "damage took it");
    }
}
