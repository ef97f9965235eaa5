//! Editors: what is edited at a version that others have left behind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::document::{Document, Edit, EditError, Editor, Followed, Maker, Seats, UnknownHeads};
use anabranch_engine::id::{ActorId, ChangeHash};
use anabranch_engine::limits::{CHANGE_DEPS_MAX, COUNTER_GAP_MAX, EDITORS_MAX, EDITORS_PER_DOCUMENT_MAX};
use anabranch_engine::run::{Run, UnsignedRun};
use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::Transactable as _;
use automerge::{Change, ROOT, ReadDoc as _};
use common::{Peer, guard};
use serde_json::json;

/// Has an editor edit at what it has seen. Returns what it has seen then.
fn edit_at(
    peer: &mut Peer,
    editor: &mut Editor,
    seen: &[ChangeHash],
    f: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>,
) -> Result<Vec<ChangeHash>, EditError> {
    let author = peer.author();
    let version = peer.document.version(editor, seen).unwrap();
    peer.document.edit_at(author, editor, version, f).map(|(((), heads), _)| heads)
}

fn editor(peer: &Peer) -> Editor {
    peer.document.editor(&Seats::default()).unwrap()
}

fn insert(peer: &mut Peer, editor: &mut Editor, seen: &[ChangeHash], position: usize, text: &str) -> Vec<ChangeHash> {
    edit_at(peer, editor, seen, |edit| edit.splice_text("/text", position, 0, text)).unwrap()
}

fn text(document: &Document) -> String {
    document.view().text("/text").unwrap()
}

/// A peer whose document has a text, and its version.
fn with_text(content: &str) -> (Peer, Vec<ChangeHash>) {
    let mut peer = Peer::new(1);
    peer.edit(|edit| edit.set("/text", content)).unwrap();
    let heads = peer.document.heads();
    (peer, heads)
}

/// Everything that one has made passes another's gate and reads the same there.
fn reaches(peer: &mut Peer, other: &mut Peer) {
    let settled = other.receive(peer.take_runs());
    assert!(settled.refused.is_empty() && settled.waiting == 0, "{settled:?}");
    assert_eq!(other.document.heads(), peer.document.heads());
    assert_eq!(other.document.view().json(), peer.document.view().json());
    assert_eq!(peer.document.signed_heads(), peer.document.heads());
}

#[test]
fn positions_are_those_that_the_editor_saw() {
    let (mut peer, seen) = with_text("one three");
    let mut tab = editor(&peer);
    peer.edit(|edit| edit.splice_text("/text", 0, 0, "zero, ")).unwrap();
    insert(&mut peer, &mut tab, &seen, 4, "two ");
    assert_eq!(text(&peer.document), "zero, one two three");
    // What was deleted meanwhile is deleted, and what was written into it stays.
    let seen = peer.document.heads();
    peer.edit(|edit| edit.splice_text("/text", 8, 0, "(1)")).unwrap();
    edit_at(&mut peer, &mut tab, &seen, |edit| edit.splice_text("/text", 6, 4, "")).unwrap();
    assert_eq!(text(&peer.document), "zero, (1)two three");
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn a_change_depends_on_exactly_what_was_seen_and_returns_what_is_seen_then() {
    let (mut peer, seen) = with_text("abc");
    let mut tab = editor(&peer);
    peer.edit(|edit| edit.set("/other", 1)).unwrap();
    let first = insert(&mut peer, &mut tab, &seen, 3, "d");
    let other = peer.document.heads().into_iter().find(|head| !first.contains(head)).unwrap();
    let second = insert(&mut peer, &mut tab, &[other], 4, "e");
    let view = peer.document.view();
    assert_eq!(view.change(&first[0]).unwrap().deps, seen);
    let mut both = vec![first[0], other];
    both.sort_unstable();
    assert_eq!((view.change(&second[0]).unwrap().deps, view.heads()), (both, second));
}

#[test]
fn edits_that_nobody_has_acknowledged_are_a_chain() {
    let (mut peer, seen) = with_text("ab");
    let mut tab = editor(&peer);
    for (at, letter) in ["c", "d", "e"].into_iter().enumerate() {
        peer.edit(|edit| edit.splice_text("/text", 0, 0, "-")).unwrap();
        insert(&mut peer, &mut tab, &seen, 2 + at, letter);
    }
    assert_eq!(text(&peer.document), "---abcde");
    let runs = peer.take_runs();
    let tabs: Vec<_> = runs.iter().filter(|run| Some(run.header.actor) == tab.actor()).collect();
    assert_eq!(tabs.last().unwrap().header.last_seq, 3, "one actor");
    let mut other = Peer::new(2);
    assert!(other.receive(runs).refused.is_empty());
    assert_eq!(text(&other.document), "---abcde");
}

#[test]
fn a_value_set_over_one_that_was_not_seen_leaves_both() {
    let (mut peer, seen) = with_text("");
    peer.edit(|edit| edit.set("/title", "theirs")).unwrap();
    let mut tab = editor(&peer);
    let heads = edit_at(&mut peer, &mut tab, &seen, |edit| {
        assert_eq!(edit.get("/title"), None, "it is not seen");
        edit.set("/title", "mine")
    });
    assert_eq!(peer.document.view().conflicts("/title").len(), 2);
    assert_eq!(peer.document.view().text("/title").as_deref(), Some("mine"), "the later one is shown");
    // It has seen its own, and now the other.
    let seen = peer.document.heads();
    assert!(seen.contains(&heads.unwrap()[0]) && seen.len() == 2);
    edit_at(&mut peer, &mut tab, &seen, |edit| edit.set("/title", "both")).unwrap();
    assert_eq!(peer.document.view().conflicts("/title"), []);
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn an_edit_in_what_was_removed_meanwhile_goes_into_it_and_is_lost_like_any_other() {
    let (mut peer, _) = with_text("");
    peer.edit(|edit| edit.set("/list", json!(["a", {"b": 1}]))).unwrap();
    let seen = peer.document.heads();
    let mut tab = editor(&peer);
    peer.edit(|edit| edit.remove("/list/1")).unwrap();
    edit_at(&mut peer, &mut tab, &seen, |edit| edit.set("/list/1/b", 2)).unwrap();
    assert_eq!(peer.document.view().json()["list"], json!(["a"]));
    assert_eq!(peer.document.view().lost_edits().len(), 1);
    edit_at(&mut peer, &mut tab, &seen, |edit| edit.insert("/list/2", "c")).unwrap();
    assert_eq!(peer.document.view().json()["list"], json!(["a", "c"]));
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn of_two_editors_neither_sees_the_other_before_it_says_so() {
    let (mut peer, seen) = with_text("ab");
    let (mut tab, mut phone) = (editor(&peer), editor(&peer));
    let tabs = insert(&mut peer, &mut tab, &seen, 1, "1");
    let phones = insert(&mut peer, &mut phone, &seen, 1, "2");
    assert_ne!(tab.actor(), phone.actor());
    assert_eq!(text(&peer.document).len(), 4);
    let at = |heads: &[ChangeHash]| peer.document.view_at(heads).unwrap().text("/text").unwrap();
    assert_eq!((at(&tabs), at(&phones)), ("a1b".to_owned(), "a2b".to_owned()));
    let all = peer.document.heads();
    let end = text(&peer.document).len();
    insert(&mut peer, &mut tab, &all, end, "!");
    assert!(text(&peer.document).ends_with("b!"));
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn a_version_that_is_not_here_is_named_and_nothing_changes() {
    let (mut peer, seen) = with_text("ab");
    let unknown = ChangeHash([9; 32]);
    let mut tab = editor(&peer);
    let error = peer.document.version(&tab, &[seen[0], unknown]).unwrap_err();
    assert_eq!(error, UnknownHeads(unknown));
    assert!(error.to_string().contains("is not in this document"));
    // One that was edited at before is still looked for.
    insert(&mut peer, &mut tab, &seen, 0, "c");
    assert_eq!(Peer::new(2).document.version(&tab, &seen), Err(UnknownHeads(seen[0])));
}

#[test]
fn no_heads_are_the_empty_version() {
    let (mut peer, _) = with_text("ab");
    let mut tab = editor(&peer);
    let refused = edit_at(&mut peer, &mut tab, &[], |edit| edit.splice_text("/text", 0, 0, "x")).unwrap_err();
    assert_eq!(refused.to_string(), "there is nothing at `/text`");
    edit_at(&mut peer, &mut tab, &[], |edit| edit.set("/mine", 1)).unwrap();
    edit_at(&mut peer, &mut tab, &[], |edit| {
        assert_eq!(edit.get("/mine"), Some(json!(1)), "its own edits are always seen");
        edit.set("/mine", 2)
    })
    .unwrap();
    assert_eq!(peer.document.view().json(), json!({"text": "ab", "mine": 2}));
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn an_edit_that_fails_leaves_nothing_and_one_without_a_change_draws_no_actor() {
    let (mut peer, seen) = with_text("ab");
    peer.edit(|edit| edit.splice_text("/text", 0, 0, "longer")).unwrap();
    let before = peer.document.heads();
    let mut tab = editor(&peer);
    let failed = edit_at(&mut peer, &mut tab, &seen, |edit| {
        edit.splice_text("/text", 0, 0, "x")?;
        edit.splice_text("/text", 4, 0, "y")
    });
    let out_of_range = EditError::OutOfRange { path: "/text".parse().unwrap(), position: 4, length: 3 };
    assert_eq!(failed.unwrap_err(), out_of_range);
    assert_eq!(edit_at(&mut peer, &mut tab, &seen, |_| Ok(())).unwrap(), seen);
    assert_eq!((peer.document.heads(), tab.actor()), (before, None));
    insert(&mut peer, &mut tab, &seen, 2, "c");
    assert_eq!(text(&peer.document), "longerabc");
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn an_edit_of_the_newest_version_is_like_any_other() {
    let (mut peer, _) = with_text("ab");
    let mut tab = editor(&peer);
    for letter in 0..3 {
        let (now, length) = (peer.document.heads(), text(&peer.document).len());
        let then = insert(&mut peer, &mut tab, &now, length, "x");
        assert_eq!((peer.document.heads(), then.len()), (then, 1), "{letter}");
        peer.edit(|edit| edit.splice_text("/text", 0, 0, "y")).unwrap();
    }
    assert_eq!(text(&peer.document), "yyyabxxx");
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn the_actor_of_an_editor_that_left_is_for_one_that_has_seen_all() {
    let (mut peer, seen) = with_text("ab");
    let mut tab = editor(&peer);
    insert(&mut peer, &mut tab, &seen, 0, "1");
    let first = tab.actor();
    let mut beside = editor(&peer);
    let now = peer.document.heads();
    insert(&mut peer, &mut beside, &now, 0, "2");
    assert_ne!(beside.actor(), first, "the first one may go on");
    drop(tab);
    let mut late = editor(&peer);
    insert(&mut peer, &mut late, &seen, 0, "3");
    assert_ne!(late.actor(), first, "it has not seen what the first one did");
    let mut next = editor(&peer);
    let now = peer.document.heads();
    insert(&mut peer, &mut next, &now, 0, "4");
    assert_eq!(next.actor(), first);
    assert_eq!(peer.document.view().history().iter().filter(|change| Some(change.actor) == first).count(), 2);
    // Edits and drafts go on under their own.
    peer.edit(|edit| edit.set("/k", 1)).unwrap();
    let (last, author) = (peer.document.heads(), peer.author());
    let edits = peer.document.view().change(&last[0]).unwrap().actor;
    assert!([first, late.actor(), beside.actor()].iter().all(|actor| *actor != Some(edits)));
    drop(peer.document.draft(author));
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn an_editor_whose_actor_a_copy_of_the_process_has_used_goes_on_under_another() {
    let (mut peer, seen) = with_text("ab");
    let mut tab = editor(&peer);
    insert(&mut peer, &mut tab, &seen, 2, "c");
    let actor = tab.actor().unwrap();
    // The copy continues the same actor.
    let mut copy = Peer::new(1);
    let runs = peer.take_runs();
    copy.receive(runs.clone());
    let author = copy.author();
    let mut elsewhere = editor(&copy);
    let version = copy.document.version(&elsewhere, &copy.document.heads()).unwrap();
    let forged = anabranch_engine::document::Author { fresh_actor: actor, ..author };
    copy.document
        .edit_at(forged, &mut elsewhere, version, |edit| edit.splice_text("/text", 0, 0, "copy "))
        .map(|_: (((), Vec<ChangeHash>), bool)| ())
        .unwrap_or_else(|error: EditError| panic!("{error}"));
    let copied = copy.take_runs();
    let settled = peer.receive(copied.clone());
    assert!(settled.cloned, "{settled:?}");
    insert(&mut peer, &mut tab, &seen, 3, "d");
    assert_ne!(tab.actor(), Some(actor));
    assert_eq!(text(&peer.document), "copy abcd");
    let mut other = Peer::new(2);
    other.receive(runs.into_iter().chain(copied));
    reaches(&mut peer, &mut other);
}

#[test]
fn a_recorded_edit_at_a_version_is_replayed_and_edits_go_on_under_their_own_actor() {
    let (mut peer, seen) = with_text("ab");
    let mut again = Peer::new(1);
    let recorded = peer.document.last_local_change().unwrap();
    let device = peer.device();
    again.document.apply_local(device, &recorded, Maker::Edit, &guard()).unwrap();
    let mut tab = editor(&peer);
    for round in 0..3 {
        peer.edit(|edit| edit.set("/k", round)).unwrap();
        let edited = peer.document.last_local_change().unwrap();
        insert(&mut peer, &mut tab, &seen, 2, "c");
        let recorded = peer.document.last_local_change().unwrap();
        again.document.apply_local(device, &edited, Maker::Edit, &guard()).unwrap();
        again.document.apply_local(device, &recorded, Maker::Editor, &guard()).unwrap();
    }
    assert_eq!(again.document.heads(), peer.document.heads());
    assert_eq!(again.document.writers()[0], peer.document.writers()[0]);
}

#[test]
fn followers_get_patches_at_the_positions_of_the_newest_version() {
    let (mut peer, seen) = with_text("ab");
    let mut tab = editor(&peer);
    peer.edit(|edit| edit.splice_text("/text", 0, 0, "longer ")).unwrap();
    let before = peer.document.heads();
    peer.document.follow(&before).unwrap();
    insert(&mut peer, &mut tab, &seen, 1, "x");
    edit_at(&mut peer, &mut tab, &seen, |edit| edit.splice_text("/text", 2, 1, "")).unwrap();
    let Followed::Steps(steps) = peer.document.follow(&before).unwrap() else { panic!("it should know the steps") };
    let mut seen_by_follower = json!({"text": "longer ab"});
    for patch in steps.iter().flat_map(|step| &step.patches) {
        patch.apply(&mut seen_by_follower).unwrap();
    }
    assert_eq!(seen_by_follower, peer.document.view().json());
    assert_eq!(seen_by_follower, json!({"text": "longer ax"}));
}

#[test]
fn versions_that_peers_would_take_no_edit_of_are_refused_by_number() {
    let mut peer = Peer::new(1);
    let mut heads = Vec::new();
    peer.edit(|edit| edit.set("/k", 0)).unwrap();
    let root = peer.document.heads();
    for name in 0..CHANGE_DEPS_MAX as u64 {
        let mut tab = editor(&peer);
        let version = peer.document.version(&tab, &root).unwrap();
        let mut author = peer.author();
        author.fresh_actor.0[..8].copy_from_slice(&name.to_be_bytes());
        let edited = peer.document.edit_at(author, &mut tab, version, |edit| edit.set("/k", name as i64 + 1));
        heads.extend(edited.unwrap().0.1);
    }
    let mut tab = editor(&peer);
    edit_at(&mut peer, &mut tab, &root, |edit| edit.set("/own", 1)).unwrap();
    let refused = edit_at(&mut peer, &mut tab, &heads, |edit| edit.set("/own", 2)).unwrap_err();
    let value = CHANGE_DEPS_MAX + 1;
    assert_eq!(refused, EditError::TooManyHeads { value, limit: CHANGE_DEPS_MAX });
    assert!(refused.to_string().starts_with("the version has 1025 heads, limit 1024"));
    // Its joins take away so many heads that one change depends on the rest.
    let author = peer.author();
    assert!(peer.document.join_heads(author).unwrap());
    let now = peer.document.heads();
    edit_at(&mut peer, &mut tab, &now, |edit| edit.set("/own", 2)).unwrap();
    reaches(&mut peer, &mut Peer::new(2));
}

#[test]
fn a_document_whose_changes_leave_out_counters_is_saved_and_loaded() {
    let (mut peer, root) = with_text("ab");
    let run = peer.take_runs().remove(0);
    let mut changes = vec![Change::from_bytes(run.payload.clone()).unwrap()];
    let mut tab = editor(&peer);
    for n in 0..3 {
        peer.edit(|edit| edit.set("/n", n)).unwrap();
        insert(&mut peer, &mut tab, &root, 2, "c");
    }
    edit_at(&mut peer, &mut tab, &root, |edit| edit.splice_text("/text", 0, 2, "")).unwrap();
    for run in peer.take_runs() {
        let mut rest = &run.payload[..];
        while !rest.is_empty() {
            let length = anabranch_engine::gate::inspector::inspect(rest).unwrap().length;
            changes.push(Change::from_bytes(rest[..length].to_vec()).unwrap());
            rest = &rest[length..];
        }
    }
    let mut doc = automerge::Automerge::new_with_encoding(automerge::TextEncoding::UnicodeCodePoint);
    doc.apply_changes(changes).unwrap();
    let loaded = automerge::Automerge::load(&doc.save()).unwrap();
    assert_eq!(loaded.get_heads(), doc.get_heads());
}

/// What another program makes of a document whose only change is in `run`, as a run of `writer`'s.
fn foreign(writer: &Peer, run: &Run, f: impl FnOnce(&mut automerge::AutoCommit)) -> Run {
    let mut doc = automerge::AutoCommit::new_with_encoding(automerge::TextEncoding::UnicodeCodePoint);
    doc.apply_changes([Change::from_bytes(run.payload.clone()).unwrap()]).unwrap();
    doc.set_actor(automerge::ActorId::from([77; 16]));
    f(&mut doc);
    doc.commit();
    let change = doc.get_last_local_change().unwrap();
    signed(writer, &change)
}

fn signed(writer: &Peer, change: &Change) -> Run {
    let actor = ActorId(change.actor_id().to_bytes().try_into().unwrap());
    let (seq, tip, payload) = (change.seq(), ChangeHash(change.hash().0), change.raw_bytes().to_vec());
    writer.sign(UnsignedRun { actor, first_seq: seq, last_seq: seq, tip, payload })
}

#[test]
fn a_version_that_is_as_far_behind_as_peers_take_it_is_edited_and_one_further_is_not() {
    for (gap, limit) in [(COUNTER_GAP_MAX - 1, None), (COUNTER_GAP_MAX, Some(COUNTER_GAP_MAX + 1))] {
        let (mut peer, root) = with_text("ab");
        let run = peer.take_runs().remove(0);
        let mut other = Peer::new(2);
        let far = foreign(&other, &run, |doc| doc.put(ROOT, "far", 1).unwrap());
        let mut far = Change::from_bytes(far.payload).unwrap().decode();
        far.start_op = far.start_op.saturating_add(gap);
        let far = signed(&other, &Change::from(far));
        assert_eq!(peer.receive([far.clone()]).accepted.len(), 1);
        let mut tab = editor(&peer);
        let edited = edit_at(&mut peer, &mut tab, &root, |edit| edit.splice_text("/text", 2, 0, "c"));
        match limit {
            None => {
                edited.unwrap();
                assert_eq!(other.receive([run, far]).accepted.len(), 2);
                reaches(&mut peer, &mut other);
            }
            Some(value) => {
                let refused = edited.unwrap_err();
                assert_eq!(refused, EditError::FarBehind { value, limit: COUNTER_GAP_MAX });
                assert!(
                    refused
                        .to_string()
                        .starts_with("the version is 1000001 operations behind the document, limit 1000000")
                );
                assert_eq!(text(&peer.document), "ab");
            }
        }
    }
}

#[test]
fn a_join_of_heads_is_numbered_behind_those_that_it_joins() {
    let (mut peer, root) = with_text("ab");
    let run = peer.take_runs().remove(0);
    let mut other = Peer::new(2);
    let mut runs = vec![run.clone()];
    for name in 0..=CHANGE_DEPS_MAX as u64 {
        let change = foreign(&other, &run, |doc| doc.put(ROOT, "k", 1).unwrap());
        let mut change = Change::from_bytes(change.payload).unwrap().decode();
        let mut actor = [9; 16];
        actor[..8].copy_from_slice(&name.to_be_bytes());
        change.actor_id = automerge::ActorId::from(actor);
        // One is far ahead of the others.
        change.start_op = change.start_op.saturating_add(if name == 500 { COUNTER_GAP_MAX } else { 0 });
        runs.push(signed(&other, &Change::from(change)));
    }
    peer.receive(runs[1..].iter().cloned());
    assert_eq!(peer.document.heads().len(), CHANGE_DEPS_MAX + 1);
    let author = peer.author();
    assert!(peer.document.join_heads(author).unwrap());
    peer.edit(|edit| edit.set("/own", 1)).unwrap();
    other.receive(runs);
    assert_ne!(peer.document.heads(), root);
    reaches(&mut peer, &mut other);
}

#[test]
fn a_document_with_marks_is_edited_at_its_newest_version_only() {
    let (mut peer, seen) = with_text("abc");
    let run = peer.take_runs().remove(0);
    let mut other = Peer::new(2);
    other.receive([run.clone()]);
    let marked = foreign(&other, &run, |doc| {
        let text = doc.get(ROOT, "text").unwrap().unwrap().1;
        doc.mark(&text, Mark::new("bold".to_owned(), true, 0, 3), ExpandMark::None).unwrap();
    });
    assert_eq!(peer.receive([marked.clone()]).accepted.len(), 1);
    other.receive([marked]);
    let mut tab = editor(&peer);
    let refused = edit_at(&mut peer, &mut tab, &seen, |edit| edit.splice_text("/text", 3, 0, "d")).unwrap_err();
    assert_eq!(refused, EditError::Marked);
    let now = peer.document.heads();
    insert(&mut peer, &mut tab, &now, 3, "d");
    assert_eq!(text(&peer.document), "abcd");
    reaches(&mut peer, &mut other);
}

#[test]
fn an_editor_whose_last_change_is_lost_begins_again_under_another_actor() {
    let (mut peer, seen) = with_text("ab");
    let runs = peer.take_runs();
    let mut tab = editor(&peer);
    let lost = insert(&mut peer, &mut tab, &seen, 2, "c");
    let before = tab.actor();
    // As a document is after damage.
    peer.document = Peer::new(1).document;
    peer.receive(runs);
    assert_eq!(peer.document.version(&tab, &lost), Err(UnknownHeads(lost[0])));
    insert(&mut peer, &mut tab, &seen, 2, "d");
    assert_eq!(text(&peer.document), "abd");
    assert_ne!(tab.actor(), before);
}

#[test]
fn an_editor_in_another_process_draws_another_actor() {
    let (mut peer, seen) = with_text("ab");
    let mut tab = editor(&peer);
    insert(&mut peer, &mut tab, &seen, 0, "1");
    let mut restarted = Peer::new(1);
    restarted.actors = 100;
    restarted.receive(peer.take_runs());
    let mut tab_again = editor(&restarted);
    let now = restarted.document.heads();
    insert(&mut restarted, &mut tab_again, &now, 0, "2");
    let used: Vec<ActorId> = peer.document.view().history().iter().map(|change| change.actor).collect();
    assert!(!used.contains(&tab_again.actor().unwrap()));
}

#[test]
fn editors_of_a_document_and_of_a_replica_are_limited_and_those_that_left_do_not_count() {
    let replica = Seats::default();
    let (peer, other) = (Peer::new(1), Peer::new(2));
    let mut editors: Vec<_> = (0..EDITORS_PER_DOCUMENT_MAX).map(|_| peer.document.editor(&replica).unwrap()).collect();
    let refused = peer.document.editor(&replica).unwrap_err();
    assert_eq!(refused.to_string(), "this document has 257 editors, limit 256");
    other.document.editor(&replica).unwrap();
    editors.pop();
    editors.push(peer.document.editor(&replica).unwrap());
    let documents: Vec<Peer> = (0..EDITORS_MAX / EDITORS_PER_DOCUMENT_MAX).map(|_| Peer::new(3)).collect();
    let mut more = documents.iter().flat_map(|peer| (0..EDITORS_PER_DOCUMENT_MAX).map(move |_| peer));
    let refused = more.find_map(|peer| match peer.document.editor(&replica) {
        Ok(editor) => {
            editors.push(editor);
            None
        }
        Err(error) => Some(error.to_string()),
    });
    assert_eq!(refused.unwrap(), "this replica has 4097 editors, limit 4096");
}
