//! I8 in bytes: what an engine owns, measured by what the allocator gets back when it is dropped. The tables and queues that
//! it counts itself are held to their limits at every step of every seed; this is for what it might forget to count. And what
//! a document takes for a moment, while it is merged and opened.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::document::{Document, OpenWork, Settle};
use anabranch_engine::id::{ActorId, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::CHANGE_DENSE_OPS_MAX;
use anabranch_engine::run::Run;
use anabranch_engine::space::Acl;
use anabranch_engine::space::roles::Role;
use anabranch_tests::bench::arrive::Unguarded;
use anabranch_tests::sim::byzantine::forge::{self, Chain};
use anabranch_tests::sim::byzantine::{Attack, ByzantineOptions};
use anabranch_tests::sim::replica::Process;
use anabranch_tests::sim::story::{Story, Who};

/// Bytes that a replica's engine owns. The replica is gone afterwards.
fn owned(story: &mut Story, who: Who) -> i64 {
    let Process { engine, .. } = story.world.replicas[who.0].process.take().unwrap();
    -allocation_counter::measure(move || drop(engine)).bytes_current
}

/// Bytes that an honest engine owns after so many attacks of one kind by a member, and how many of them were any.
fn attacked(attack: Attack, strikes: u64) -> (i64, u64) {
    let mut story = Story::new();
    let (alice, bob, mallory) = (story.someone("Alice"), story.someone("Bob"), story.someone("Mallory"));
    let space = story.space(alice, "notes");
    story.invite(alice, space, bob, Role::Writer);
    story.invite(alice, space, mallory, Role::Writer);
    for writer in [alice, bob, mallory] {
        let note = story.document(writer, space);
        story.edit(writer, note, |edit| Ok(edit.set("/n", 1)?));
    }
    story.agree();
    story.world.turn(ByzantineOptions { replica: mallory.0, attacks: Vec::new(), strikes: 0, muted: false });
    let mut done = 0;
    for strike in 0..strikes {
        done += u64::from(story.world.strike(mallory.0, attack, strike));
        story.wait(2);
    }
    (owned(&mut story, alice), done)
}

/// What a strike may leave behind, in bytes, where it leaves what a member may leave: documents, entries, runs that wait. There
/// are limits for these, and what is counted against them; here it is seen that each costs about as much as it looks.
const LEFT: &[(Attack, i64)] = &[
    (Attack::Forks, 32_000),
    (Attack::BackDates, 20_000),
    (Attack::Gaps, 20_000),
    (Attack::Inflates, 5_000),
    (Attack::Dense, 20_000),
    (Attack::WideDeps, 64_000),
    // Now and then a thousand changes, each by another actor.
    (Attack::Heads, 256_000),
    (Attack::Lists, 64_000),
    (Attack::Impossible, 20_000),
    (Attack::Orphans, 16_000),
    (Attack::Forges, 8_000),
    (Attack::Unauthorised, 6_000),
    (Attack::Entries, 24_000),
];
/// And where it leaves nothing.
const NOTHING: i64 = 100;
/// Strikes in the shorter and in the longer world.
const FEW: u64 = 20;
const MANY: u64 = 80;

#[test]
fn an_engine_does_not_grow_with_what_is_done_to_it() {
    // What is withheld or late makes nothing, and a writer makes no crowds.
    let makes_nothing = |attack: &Attack| matches!(attack, Attack::Withholds | Attack::Delays | Attack::Crowds);
    for attack in Attack::ALL.iter().filter(|attack| !makes_nothing(attack)) {
        let ((few, done_before), (many, done)) = (attacked(*attack, FEW), attacked(*attack, MANY));
        // Who offends again and again is soon not connected.
        let offends = matches!(attack, Attack::BadEntries | Attack::RepeatedEntries | Attack::Forges);
        let enough = if offends { done_before } else { MANY / 2 };
        assert!(done > enough && done > done_before && few > 10_000, "{attack:?}: {done} attacks, {few} bytes");
        let each = (many - few) / (done - done_before) as i64;
        let allowed = LEFT.iter().find(|(left, _)| left == attack).map_or(NOTHING, |(_, bytes)| *bytes);
        assert!(each <= allowed, "{attack:?}: {each} bytes for each, from {few} to {many}, limit {allowed}");
    }
}

/// Bytes that a document of a few hundred bytes takes at most for a moment: what automerge needs for the operations of one change.
const PEAK_MAX: u64 = 128 << 20;

#[test]
fn a_document_of_a_few_bytes_takes_bounded_memory_to_merge_and_to_open() {
    let (key, actor) = (SecretKey::from_seed(&[1; 32]), ActorId([7; 16]));
    let (space, id, acl) = (SpaceId([1; 32]), DocumentId([2; 16]), Acl::new(Vec::new()));
    let mut chain = Chain::new(actor, Vec::new(), 0);
    let runs: Vec<Run> = (0..8)
        .map(|_| {
            let change = chain.change_of_nulls(CHANGE_DENSE_OPS_MAX);
            chain.seq += 1;
            chain.start_op += CHANGE_DENSE_OPS_MAX + 1;
            chain.deps = vec![anabranch_engine::id::ChangeHash(change.hash().0)];
            forge::run(&key, space, id, &acl, &[change])
        })
        .collect();
    let bytes: usize = runs.iter().map(|run| run.payload.len()).sum();
    assert!(bytes < 2_000, "{bytes} bytes");
    let mut merged = Document::empty(space, id);
    let merging = allocation_counter::measure(|| {
        runs.iter().for_each(|run| merged.receive(run.clone()));
        let Settle::Work(work) = merged.settle(&Unguarded) else { panic!("it is merged under the lock") };
        let done = work.run(&Unguarded);
        let settled = merged.finish_merge(done, &Unguarded);
        assert_eq!(settled.accepted.len(), 8);
    });
    let heads = merged.heads();
    drop(merged);
    let mut opened = None;
    let opening = allocation_counter::measure(|| {
        let work =
            OpenWork { space, id, runs: runs.clone(), tips: Vec::new(), suspects: Vec::new(), poisoned: Vec::new() };
        opened = Some(work.run(&Unguarded).unwrap());
    });
    assert_eq!(opened.unwrap().heads(), heads);
    let [merging, opening] = [merging, opening].map(|measured| measured.bytes_max);
    assert!(merging < PEAK_MAX && opening < PEAK_MAX, "{merging} bytes to merge, {opening} to open");
    println!("{merging} bytes to merge, {opening} to open");
}
