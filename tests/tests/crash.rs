//! A small part of the crash lab on every test run: some hundred images, and every script of the sweep.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::Event;
use anabranch_engine::document::record::DocumentRecord;
use anabranch_engine::limits::{ORPHANS_PER_DOCUMENT_MAX, SCAN_BYTES};
use anabranch_engine::run::Run;
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::{CommitId, Request, Row, Table, document_key, parse_run_key};
use anabranch_store::Store;
use anabranch_store::backend::crashable::Disk;
use anabranch_tests::crash::campaign::Campaign;
use anabranch_tests::crash::images::{Outcome, runs};
use anabranch_tests::crash::pair::{Pair, Side};
use anabranch_tests::crash::script::Step;
use anabranch_tests::crash::sweep::{Condition, SCRIPTS};

#[test]
fn whatever_a_disk_leaves_is_opened_right_or_refused_in_words() {
    let campaign = Campaign { seed: 3, images: 640, script: None, image: None, threads: 2, failures_max: 3 };
    let summary = campaign.run(&|| false, &|failure| println!("{failure}"));
    println!("{summary}");
    assert_eq!(summary.failures, Vec::<String>::new());
    assert_eq!((summary.scripts, summary.count(true), summary.count(false)), (10, 400, 240));
    let recovered = summary.recovered;
    assert!(recovered.whole > 100 && recovered.found * 100 >= recovered.whole * 95, "{recovered:?}");
    for outcome in [Outcome::Whole, Outcome::WholeTwice, Outcome::Readable, Outcome::Salvaged] {
        assert!(summary.with(outcome) > 10, "{outcome:?}: {}", summary.with(outcome));
    }
}

#[test]
fn the_same_seed_makes_the_same_images() {
    let campaign = Campaign { seed: 5, images: 64, script: Some(2), image: None, threads: 1, failures_max: 1 };
    let (first, second) = (campaign.run(&|| false, &|_| ()), campaign.run(&|| false, &|_| ()));
    assert_eq!((first.images, first.caught), (second.images, second.caught));
}

/// `crash --sweep` fails every call; here it is every seventh.
#[test]
fn a_call_that_fails_costs_nothing_that_was_acknowledged() {
    assert!(SCRIPTS.len() >= 20);
    for script in SCRIPTS {
        let swept = script.sweep(7);
        println!("{}: {} calls, {} errors", script.name, swept.calls, swept.errors);
        assert_eq!(swept.failures, Vec::<String>::new());
        // Of few calls all may be ones that nobody waits for.
        assert!(swept.errors > 0 || swept.calls < 10, "`{}` never fails", script.name);
    }
}

/// A bit of a stored run changed: the document lacked it for ever, and stopped being sent. Now it is rebuilt from the
/// other runs, and the other replica brings the one that is gone.
#[test]
fn a_rotten_run_comes_back_from_the_other_replica() {
    let scripts = SCRIPTS.iter().filter(|script| script.disk == Condition::Rotten);
    let mut count = 0;
    for script in scripts {
        let mut pair = script.prepare().unwrap();
        for step in script.script {
            step.perform(&mut pair).unwrap();
        }
        let (ours, other) = (pair.places(Side::Ours), pair.places(Side::Other));
        assert_eq!(ours, other);
        for place in ours {
            assert_eq!(pair.open(Side::Ours, place).unwrap(), pair.open(Side::Other, place).unwrap());
        }
        let damaged = |event: &Event| matches!(event, Event::DocumentDamaged { .. });
        let mended = |event: &Event| matches!(event, Event::DocumentMended { waiting, .. } if *waiting > 0);
        let told = pair.events();
        assert_eq!(told.iter().filter(|event| damaged(event)).count(), 1, "{told:?}");
        assert!(told.iter().any(mended), "later runs waited for it: {told:?}");
        // And it is whole on the disk.
        pair.stop_ours();
        pair.start_ours().unwrap();
        for place in pair.places(Side::Ours) {
            pair.open(Side::Ours, place).unwrap();
        }
        assert!(!pair.events().iter().any(damaged));
        count += 1;
    }
    assert_eq!(count, 2);
}

/// A page that looks like one of a store can be hidden in what a member writes into a document, where a salvage finds it.
#[test]
fn what_a_salvage_finds_under_a_wrong_signature_is_not_taken() {
    let mut pair = Pair::new(Disk::new(), 2);
    for step in [Step::Start, Step::Found, Step::Document(0), Step::Edits(0, 3, 0)] {
        step.perform(&mut pair).unwrap();
    }
    let place = pair.documents[0];
    let before = pair.open(Side::Ours, place).unwrap();
    pair.saved().unwrap();
    pair.stop_ours();
    rewrite(&pair, Some);
    pair.start_ours().unwrap();
    assert_eq!(pair.open(Side::Ours, place).unwrap(), before, "what is signed is taken");
    pair.stop_ours();
    rewrite(&pair, |mut run| {
        run.header.signature[0] ^= 1;
        Some(run)
    });
    pair.start_ours().unwrap();
    assert_eq!(pair.open(Side::Ours, place).unwrap(), serde_json::json!({}));
}

/// Leaves of our stopped replica's store what a salvage would: the runs as this makes them, records that say nothing, and no feed.
fn rewrite(pair: &Pair, change: impl Fn(Run) -> Option<Run>) {
    let store = Store::open_with_backend(pair.disk.backend()).unwrap();
    let runs = runs(&store).unwrap().into_iter().map(|(key, value)| {
        let at = parse_run_key(&key).unwrap();
        let run = Run::decode_stored(at.space, at.document, at.actor, at.last_seq, &value).unwrap();
        (Table::Runs, key, change(run).map(|run| run.encode_stored()))
    });
    let nothing = DocumentRecord::default().encode_stored();
    let places = pair.documents.iter().map(|(space, document)| document_key(space, document));
    let records = places.map(|place| (Table::Documents, place, Some(nothing.clone())));
    let feed = store.image().unwrap().rows.into_iter().filter(|(table, ..)| *table == Table::Feed);
    let feed = feed.map(|(table, key, _)| (table, key, None));
    let rows = runs.chain(records).chain(feed).map(|(table, key, value)| Row { table, key, value }).collect();
    store.execute(Request::Commit { id: CommitId(1), rows });
}

/// A document that both have, its first run gone from our disk, with so many edits behind it that the other one has not got,
/// each with so much text. The two are not linked.
fn with_a_hole(seed: u64, edits: usize, text: usize) -> Pair {
    let mut pair = Pair::new(Disk::new(), seed);
    for step in [Step::Start, Step::Found, Step::Admit(Role::Writer), Step::Document(0), Step::Agree, Step::Cut] {
        step.perform(&mut pair).unwrap();
    }
    for _ in 0..edits {
        Step::Edits(0, 1, text).perform(&mut pair).unwrap();
    }
    pair.stop_ours();
    rewrite(&pair, |run| (run.header.first_seq > 1).then_some(run));
    pair
}

fn mended(pair: &Pair) -> usize {
    pair.events().iter().filter(|event| matches!(event, Event::DocumentMended { .. })).count()
}

/// What was acknowledged and waits in the store was forgotten in memory after ten minutes, and read again by the next process
/// only, though the other replica had brought what it waited for.
#[test]
fn what_waits_in_the_store_counts_as_soon_as_what_it_needs_comes() {
    let mut pair = with_a_hole(3, 3, 0);
    let place = pair.documents[0];
    pair.start_ours().unwrap();
    assert_eq!(pair.open(Side::Ours, place).unwrap(), serde_json::json!({}), "all of it waits");
    pair.pass(11 * 60);
    pair.agree().unwrap();
    let ours = pair.open(Side::Ours, place).unwrap();
    assert_eq!(ours["count"], 4, "{ours}");
    assert_eq!(pair.open(Side::Other, place).unwrap(), ours);
}

/// A document of which nothing fitted was rebuilt by every process.
#[test]
fn what_waits_in_the_store_is_read_when_its_document_comes_into_memory() {
    let mut pair = with_a_hole(4, 3, 0);
    let place = pair.documents[0];
    pair.start_ours().unwrap();
    assert_eq!(pair.open(Side::Ours, place).unwrap(), serde_json::json!({}), "all of it waits");
    assert_eq!(mended(&pair), 1);
    pair.stop_ours();
    pair.start_ours().unwrap();
    pair.agree().unwrap();
    let ours = pair.open(Side::Ours, place).unwrap();
    assert_eq!(ours["count"], 4, "{ours}");
    assert_eq!(pair.open(Side::Other, place).unwrap(), ours);
    assert_eq!(mended(&pair), 0, "it was mended before");
}

/// More runs than may wait, and more bytes than are read at a time.
#[test]
fn what_waits_in_the_store_counts_however_much_it_is() {
    for (edits, text) in [(2 * ORPHANS_PER_DOCUMENT_MAX, 0), (12, SCAN_BYTES / 8)] {
        let mut pair = with_a_hole(5, edits, text);
        let place = pair.documents[0];
        pair.start_ours().unwrap();
        assert_eq!(pair.open(Side::Ours, place).unwrap(), serde_json::json!({}), "all of it waits");
        // What waits in memory is given up, so that the rest is found in the store alone.
        pair.pass(11 * 60);
        pair.agree().unwrap();
        let ours = pair.open(Side::Ours, place).unwrap();
        assert_eq!(ours["count"], edits + 1);
        assert_eq!(pair.open(Side::Other, place).unwrap(), ours);
        assert!(pair.counters(Side::Ours).leftovers_read >= edits as u64);
    }
}

/// Whoever asked for the document was sent what waits too, and waited for the rest of it in vain.
#[test]
fn what_waits_in_the_store_is_sent_to_nobody() {
    let mut pair = Pair::new(Disk::new(), 6);
    for step in [Step::Start, Step::Found, Step::Admit(Role::Writer), Step::Agree, Step::Cut, Step::Document(0)] {
        step.perform(&mut pair).unwrap();
    }
    Step::EachSaved(3).perform(&mut pair).unwrap();
    let place = pair.documents[0];
    pair.stop_ours();
    rewrite(&pair, |run| (run.header.first_seq > 1).then_some(run));
    pair.start_ours().unwrap();
    pair.edit(Side::Ours, place, 0).unwrap();
    pair.saved().unwrap();
    pair.agree().unwrap();
    let ours = pair.open(Side::Ours, place).unwrap();
    assert_eq!(ours["count"], 1, "{ours}");
    assert_eq!(pair.open(Side::Other, place).unwrap(), ours);
    assert_eq!(pair.counters(Side::Other).runs_waited, 0);
}

fn keys(pair: &Pair, of: Table) -> Vec<Vec<u8>> {
    let rows = Store::open_with_backend(pair.disk.backend()).unwrap().image().unwrap().rows;
    rows.into_iter().filter(|(table, ..)| *table == of).map(|(_, key, _)| key).collect()
}

/// Takes all rows of a table from our stopped replica's store, but for these.
fn remove(pair: &Pair, table: Table, but: &[Vec<u8>]) {
    let gone = keys(pair, table).into_iter().filter(|key| !but.contains(key));
    let rows = gone.map(|key| Row { table, key, value: None }).collect();
    let store = Store::open_with_backend(pair.disk.backend()).unwrap();
    store.execute(Request::Commit { id: CommitId(1), rows });
}

/// A document with edits of ours and of the other one, of whose admission our disk has nothing any more.
fn with_an_unknown_member(seed: u64) -> Pair {
    let mut pair = Pair::new(Disk::new(), seed);
    for step in [Step::Start, Step::Found] {
        step.perform(&mut pair).unwrap();
    }
    pair.stop_ours();
    let founder = keys(&pair, Table::Members);
    for step in
        [Step::Start, Step::Admit(Role::Writer), Step::Document(0), Step::Agree, Step::TheirEdits(0, 3), Step::Agree]
    {
        step.perform(&mut pair).unwrap();
    }
    Step::Cut.perform(&mut pair).unwrap();
    pair.stop_ours();
    rewrite(&pair, Some);
    remove(&pair, Table::Members, &founder);
    pair
}

/// It was acknowledged, and signed by somebody who may turn out to be a member.
#[test]
fn what_stands_on_unknown_members_is_not_removed() {
    let mut pair = with_an_unknown_member(7);
    let place = pair.documents[0];
    let stored = |pair: &Pair| runs(&Store::open_with_backend(pair.disk.backend()).unwrap()).unwrap().len();
    let before = stored(&pair);
    for process in 0..2 {
        pair.start_ours().unwrap();
        assert_eq!(pair.open(Side::Ours, place).unwrap()["count"], 1, "in process {process}");
        pair.pass(11 * 60);
        pair.stop_ours();
        assert_eq!(stored(&pair), before);
    }
}

/// It was looked at again by the next process only.
#[test]
fn what_stands_on_unknown_members_counts_when_they_are_known() {
    let mut pair = with_an_unknown_member(8);
    let place = pair.documents[0];
    pair.start_ours().unwrap();
    assert_eq!(pair.open(Side::Ours, place).unwrap()["count"], 1);
    assert_eq!(pair.counters(Side::Ours).leftovers_read, 0);
    pair.agree().unwrap();
    assert_eq!(pair.counters(Side::Ours).leftovers_read, 3);
    assert_eq!(pair.open(Side::Ours, place).unwrap()["count"], 4);
}

/// The list of members that it stood on was lost. Nobody could be shown why it counts, so nobody ever took it.
#[test]
fn what_we_wrote_on_members_that_are_lost_is_signed_once_more() {
    for lost in [Table::AclRefs, Table::Members] {
        what_we_wrote_reaches_the_other_without(lost);
    }
}

fn what_we_wrote_reaches_the_other_without(lost: Table) {
    let mut pair = Pair::new(Disk::new(), 9);
    for step in [Step::Start, Step::Found, Step::Admit(Role::Writer), Step::Agree, Step::Cut] {
        step.perform(&mut pair).unwrap();
    }
    pair.stop_ours();
    let known = keys(&pair, Table::Members);
    // We write on an invitation that nobody else knows of, and from the next one on we would write on other members.
    for step in [Step::Start, Step::Invite, Step::Document(0), Step::Invite] {
        step.perform(&mut pair).unwrap();
    }
    pair.stop_ours();
    rewrite(&pair, Some);
    remove(&pair, lost, if lost == Table::Members { &known } else { &[] });
    for _ in 0..2 {
        pair.start_ours().unwrap();
        pair.agree().unwrap();
        let place = pair.documents[0];
        assert_eq!(pair.open(Side::Other, place).unwrap()["count"], 1);
        assert_eq!(pair.open(Side::Ours, place).unwrap()["count"], 1);
        pair.stop_ours();
    }
}

/// All that a salvage found of a document was its name. Both sides offered each other something that could not be sent, and
/// never fell silent.
#[test]
fn a_document_of_which_nothing_is_left_keeps_nobody_from_agreeing() {
    let mut pair = Pair::new(Disk::new(), 1);
    for step in [Step::Start, Step::Found, Step::Admit(Role::Writer), Step::Document(0), Step::Agree, Step::Cut] {
        step.perform(&mut pair).unwrap();
    }
    Step::Document(0).perform(&mut pair).unwrap();
    let (known, gone) = (pair.documents[0], pair.documents[1]);
    pair.saved().unwrap();
    pair.stop_ours();
    rewrite(&pair, |_| None);
    pair.start_ours().unwrap();
    pair.agree().unwrap();
    assert_eq!(pair.open(Side::Ours, known).unwrap(), pair.open(Side::Other, known).unwrap());
    assert_ne!(pair.open(Side::Ours, known).unwrap(), serde_json::json!({}));
    assert_eq!(pair.open(Side::Ours, gone).unwrap(), serde_json::json!({}), "it can be opened, and written again");
    pair.edit(Side::Ours, gone, 0).unwrap();
    pair.saved().unwrap();
    pair.agree().unwrap();
    assert_eq!(pair.open(Side::Ours, gone).unwrap(), pair.open(Side::Other, gone).unwrap());
}
