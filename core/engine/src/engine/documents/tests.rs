//! What the owner of documents in memory promises, as facts.

use super::*;
use crate::engine::input::CommandId;
use crate::limits::ORPHAN_AGE_MAX;

fn key(space: u8, document: u8) -> DocumentKey {
    (SpaceId([space; 32]), DocumentId([document; 16]))
}

/// A document that was made, and is in no commit yet.
fn made(documents: &mut Documents, key: DocumentKey) {
    documents.make(key, Document::empty(key.0, key.1));
}

/// Every table has something of a space.
fn busy(documents: &mut Documents, space: u8) {
    for document in 1..=4 {
        made(documents, key(space, document));
    }
    documents.touch(key(space, 1));
    documents.mark_dirty(key(space, 2));
    documents.reread(key(space, 3));
    assert_eq!(documents.has_orphans(key(space, 4), Timestamp::default()), 0);
    documents.open(key(space, 5));
    documents.get_mut(&key(space, 5)).unwrap().waiting.push(CommandId(u64::from(space)));
    documents.mark_damaged(key(space, 6));
    documents.mark_damaged(key(space, 5));
    made(documents, key(space, 7));
    documents.break_off(key(space, 7), String::from("automerge panicked"));
}

#[test]
fn a_space_that_is_left_leaves_nothing_and_the_others_stay() {
    let mut documents = Documents::new(0);
    busy(&mut documents, 1);
    busy(&mut documents, 2);
    assert_eq!(documents.forget_space(&SpaceId([1; 32])), [CommandId(1)]);
    let mut other = Documents::new(0);
    busy(&mut other, 2);
    let tables = |documents: &Documents| {
        let Documents { touched, dirty, unrecorded, to_reread, damaged, .. } = documents;
        let sets = [touched, dirty, unrecorded, to_reread, damaged].map(Clone::clone);
        let residents: Vec<_> = documents.residents.keys().copied().collect();
        (sets, residents, documents.waiting_since.clone(), documents.broken.clone())
    };
    assert_eq!(tables(&documents), tables(&other));
    documents.forget_space(&SpaceId([2; 32]));
    assert_eq!(tables(&documents), tables(&Documents::new(0)));
    assert_eq!(documents.audit(), Ok(()));
}

#[test]
fn a_document_that_leaves_memory_leaves_every_table() {
    let mut documents = Documents::new(0);
    busy(&mut documents, 1);
    for number in 1..=5 {
        let waiting = documents.break_off(key(1, number), String::from("damaged"));
        assert_eq!(waiting.len(), usize::from(number == 5));
    }
    assert_eq!(documents.audit(), Ok(()));
    assert!(matches!(documents.standing(&key(1, 1)), Standing::Broken("damaged")));
    assert!(documents.is_clean() && documents.next_touched().is_none());
    assert_eq!((documents.unrecorded_len(), documents.waiting_len(), documents.to_reread_len()), (0, 0, 0));
}

#[test]
fn a_table_takes_no_document_that_is_not_in_memory() {
    let mut documents = Documents::new(0);
    documents.touch(key(1, 1));
    documents.mark_dirty(key(1, 1));
    documents.reread(key(1, 1));
    documents.has_orphans(key(1, 1), Timestamp::default());
    assert_eq!(documents.audit(), Ok(()));
    assert!(documents.is_clean() && documents.next_touched().is_none());
}

#[test]
fn an_eviction_takes_the_longest_unused_and_nothing_that_is_held_or_has_work() {
    let mut documents = Documents::new(2);
    for number in 1..=6 {
        made(&mut documents, key(1, number));
    }
    documents.used(&key(1, 1));
    documents.get_mut(&key(1, 2)).unwrap().open_handles = 1;
    documents.mark_dirty(key(1, 3));
    documents.touch(key(1, 4));
    // Two too many could go, by the limit four: the others are held or have work.
    documents.used(&key(1, 5));
    assert_eq!(documents.evict(), Evicted { documents: 3, orphans: 0 });
    assert!(documents.residents.keys().eq([2, 3, 4].map(|number| key(1, number)).iter()));
    made(&mut documents, key(1, 7));
    made(&mut documents, key(1, 8));
    documents.used(&key(1, 7));
    assert_eq!(documents.next_dirty(), Some(key(1, 3)));
    assert_eq!(documents.next_touched(), Some(key(1, 4)));
    documents.used(&key(1, 3));
    documents.used(&key(1, 4));
    // Of five, two stay: the one that is held, and of the others the one used last.
    assert_eq!(documents.evict().documents, 3);
    assert!(documents.residents.keys().eq([2, 4].map(|number| key(1, number)).iter()));
    assert_eq!(documents.evict(), Evicted::default());
}

#[test]
fn a_document_that_begins_again_takes_nothing_that_was_asked_for_before() {
    let mut documents = Documents::new(0);
    let first = documents.open(key(1, 1));
    assert!(matches!(documents.standing(&key(1, 1)), Standing::Opening));
    assert!(documents.of_generation(&key(1, 1), first).is_some());
    documents.mark_damaged(key(1, 1));
    let second = documents.mend(key(1, 1));
    assert!(matches!(documents.standing(&key(1, 1)), Standing::Mending) && documents.is_damaged(&key(1, 1)));
    assert!(documents.of_generation(&key(1, 1), first).is_none());
    assert!(documents.of_generation(&key(1, 1), second).is_some());
    assert!(matches!(documents.standing(&key(1, 2)), Standing::Absent));
}

#[test]
fn a_document_in_memory_is_mended_when_it_rests_and_one_in_the_store_at_once() {
    let mut documents = Documents::new(0);
    made(&mut documents, key(1, 1));
    documents.mark_dirty(key(1, 1));
    documents.mark_damaged(key(1, 1));
    documents.mark_damaged(key(1, 2));
    assert_eq!(documents.due_for_mending(true), [key(1, 2)]);
    assert!(documents.take_dirty(&key(1, 1)));
    assert_eq!(documents.due_for_mending(false), [key(1, 2)]);
    assert_eq!(documents.due_for_mending(true), [key(1, 1), key(1, 2)]);
    for number in 3..3 + MENDING_MAX {
        documents.mend(key(1, u8::try_from(number).unwrap()));
    }
    assert_eq!(documents.due_for_mending(true), []);
}

#[test]
fn runs_that_wait_too_long_are_given_up_with_their_document_named() {
    let mut documents = Documents::new(0);
    made(&mut documents, key(1, 1));
    documents.has_orphans(key(1, 1), Timestamp(5));
    documents.has_orphans(key(1, 1), Timestamp(9));
    let due = Timestamp(5) + ORPHAN_AGE_MAX;
    assert_eq!(documents.orphans_deadline(), Some(due));
    assert_eq!(documents.give_up_orphans(Timestamp(due.0 - 1)), []);
    assert_eq!(documents.give_up_orphans(due), [(key(1, 1), 0)]);
    assert_eq!(documents.orphans_deadline(), None);
}
