//! What a hostile member with a valid key can do to others, told attack by attack: it is named, bounded, and reaches nobody
//! and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anabranch_engine::engine::input::SessionId;
use anabranch_engine::id::{ActorId, ChangeHash, DocumentId, EntryHash, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::{
    CHANGE_DEPS_MAX, DIALS_BURST, DIALS_PER_SECOND, DOCUMENTS_UNRECORDED_PER_DEVICE_MAX, ENTRIES_PER_MESSAGE_MAX,
    ORPHAN_AGE_MAX, ORPHANS_PER_DOCUMENT_MAX, RECONCILIATIONS_BURST,
};
use anabranch_engine::run::Run;
use anabranch_engine::space::Acl;
use anabranch_engine::space::membership::entry_hash;
use anabranch_engine::space::roles::Role;
use anabranch_engine::wire::{Lane, Message, SpaceRoots};
use anabranch_engine::{Command, CommandError, Counters, Reply, SpaceStatus};
use anabranch_tests::sim::byzantine::forge::{self, Chain};
use anabranch_tests::sim::byzantine::{Attack, ByzantineOptions};
use anabranch_tests::sim::options::Size;
use anabranch_tests::sim::story::{Story, Who};
use minicbor::bytes::ByteVec;
use serde_json::json;

/// Alice and Bob, and Mallory, who holds a valid key and is hostile from now on.
struct Scene {
    story: Story,
    alice: Who,
    bob: Who,
    mallory: Who,
    space: SpaceId,
    key: SecretKey,
    acl: Acl,
}

impl Scene {
    fn new(role: Role) -> Self {
        let mut story = Story::new();
        let (alice, bob, mallory) = (story.someone("Alice"), story.someone("Bob"), story.someone("Mallory"));
        let space = story.space(alice, "notes");
        story.invite(alice, space, bob, Role::Writer);
        story.invite(alice, space, mallory, role);
        story.agree();
        story.wait(10);
        story.world.turn(ByzantineOptions { replica: mallory.0, attacks: Vec::new(), strikes: 0, muted: false });
        let key = story.world.key_of(mallory.0);
        let engine = story.world.engine(mallory.0).unwrap();
        let own = engine.members(&space).into_iter().find(|member| member.device == key.device()).unwrap();
        Self { story, alice, bob, mallory, space, key, acl: Acl::new(vec![own.entry]) }
    }

    fn say(&mut self, victim: Who, lane: Lane, message: &Message) {
        assert!(self.story.world.inject(self.mallory.0, victim.0, lane, message), "there is a session");
    }

    fn send(&mut self, victim: Who, runs: &[Run]) {
        let message = forge::message(0, &self.acl, runs);
        self.say(victim, Lane::Live, &message);
    }

    fn run(&self, document: DocumentId, changes: &[automerge::Change]) -> Run {
        forge::run(&self.key, self.space, document, &self.acl, changes)
    }

    fn counters(&mut self, who: Who) -> Counters {
        self.story.world.engine(who.0).unwrap().counters()
    }

    fn status(&mut self, who: Who) -> SpaceStatus {
        self.story.world.engine(who.0).unwrap().spaces().remove(0)
    }

    fn knows(&mut self, who: Who, document: &DocumentId) -> bool {
        !self.story.world.engine(who.0).unwrap().heads(&self.space, document).is_empty()
    }

    /// Something new by Alice reaches Bob, and something by Bob Alice.
    fn goes_on(&mut self) {
        for (from, to) in [(self.alice, self.bob), (self.bob, self.alice)] {
            let place = self.story.document(from, self.space);
            self.story.edit(from, place, |edit| Ok(edit.set("/on", 1)?));
            self.story.wait(15);
            assert!(self.knows(to, &place.1), "{from:?} is not heard by {to:?}");
        }
    }

    /// The streams between Alice and Bob.
    fn streams(&self) -> Vec<SessionId> {
        let streams = self.story.world.streams_of(self.alice.0).into_iter();
        streams.filter(|(_, other)| *other == self.bob.0).map(|(session, _)| session).collect()
    }
}

/// The same beginning of one actor's chain with two ends, one of `lengths` changes each, every change signed by itself.
fn branches(scene: &Scene, document: DocumentId, lengths: [u64; 2]) -> [Vec<Run>; 2] {
    let mut stem = Chain::new(ActorId([7; 16]), Vec::new(), 0);
    let first = stem.grow(0);
    let mut values = 1_000..;
    lengths.map(|length| {
        let mut chain = stem.clone();
        let tail = values.by_ref().take(length as usize).map(|value| chain.grow(value));
        let mut changes = vec![first.clone()];
        changes.extend(tail);
        changes.iter().map(|change| scene.run(document, std::slice::from_ref(change))).collect()
    })
}

/// Two histories of one actor: both sides name the document, everything else goes on, and they do not try for ever.
fn a_fork_is_named(lengths: [u64; 2]) {
    let mut scene = Scene::new(Role::Writer);
    let (alice, bob) = (scene.alice, scene.bob);
    scene.story.cut(&[alice], &[bob]);
    let place = scene.story.document(alice, scene.space);
    scene.story.edit(alice, place, |edit| Ok(edit.set("/honest", 1)?));
    let document = place.1;
    scene.story.world.expect_fork(scene.mallory.0, place);
    let [left, right] = branches(&scene, document, lengths);
    scene.send(alice, &left);
    scene.send(bob, &right);
    scene.story.wait(5);
    scene.story.mend();
    scene.story.wait(300);
    for who in [alice, bob] {
        let forked = scene.status(who).forked;
        assert_eq!(forked.len(), 1, "{who:?}: {forked:?}");
        assert_eq!((forked[0].0, forked[0].1.actor), (document, ActorId([7; 16])));
    }
    // What was not built on either history reaches those who have the other.
    for who in [alice, bob] {
        assert_eq!(scene.story.read(who, place, |view| view.get("/honest")), Some(json!(1)), "{who:?}");
    }
    scene.goes_on();
    scene.story.wait(3_600);
    let before = (scene.counters(alice).data_messages_out, scene.counters(bob).data_messages_out);
    scene.story.wait(4 * 3_600);
    let after = (scene.counters(alice).data_messages_out, scene.counters(bob).data_messages_out);
    let said = (after.0 - before.0) + (after.1 - before.1);
    assert!(said < 200, "{said} messages in four hours over a fork that is known");
}

#[test]
fn a_fork_of_equal_length_is_named_on_both_sides_and_all_else_goes_on() {
    a_fork_is_named([1, 1]);
}

#[test]
fn a_fork_of_unequal_length_is_named_on_both_sides_and_not_sent_for_ever() {
    a_fork_is_named([1, 3]);
}

#[test]
fn a_readers_run_is_refused_where_it_arrives_and_goes_no_further() {
    let mut scene = Scene::new(Role::Reader);
    let document = DocumentId([9; 16]);
    let change = Chain::new(ActorId([7; 16]), Vec::new(), 0).grow(1);
    let run = scene.run(document, &[change]);
    let (alice, bob) = (scene.alice, scene.bob);
    scene.send(alice, &[run]);
    scene.story.wait(60);
    assert_eq!((scene.counters(alice).runs_refused, scene.counters(bob).runs_refused), (1, 0));
    assert!(!scene.knows(alice, &document) && !scene.knows(bob, &document));
    scene.goes_on();
}

// A member of a space told eight addresses for each of 300 devices that it had made up, and was gone. The others were busy with dials
// that failed, and did not find each other again.
#[test]
fn devices_that_were_made_up_cost_a_bounded_number_of_dials_and_keep_nobody_apart() {
    let mut scene = Scene::new(Role::Admin);
    let (alice, bob) = (scene.alice, scene.bob);
    for salt in 0..5 {
        assert!(scene.story.world.strike(scene.mallory.0, Attack::Crowds, salt));
        scene.story.wait(1);
    }
    let members = scene.story.world.engine(alice.0).unwrap().members(&scene.space).len();
    assert!(members > 100, "{members} members");
    scene.story.cut(&[alice], &[bob]);
    scene.story.wait(120);
    let (before, minutes) = (scene.counters(alice).dials, 10);
    scene.story.wait(minutes * 60);
    let dials = scene.counters(alice).dials - before;
    assert!(dials > 0 && dials <= DIALS_BURST + DIALS_PER_SECOND * 60 * minutes, "{dials} dials in {minutes} minutes");
    scene.story.mend();
    scene.story.wait(75);
    assert_eq!(scene.streams().len(), 1, "they have found each other");
    scene.goes_on();
}

#[test]
fn of_a_blocked_device_only_what_others_have_built_on_is_taken() {
    let mut story = Story::new();
    let (alice, bob, carol) = (story.someone("Alice"), story.someone("Bob"), story.someone("Carol"));
    let space = story.space(alice, "notes");
    story.invite(alice, space, bob, Role::Writer);
    story.invite(alice, space, carol, Role::Writer);
    let place = story.document(alice, space);
    story.edit(alice, place, |edit| Ok(edit.set("/alice", 1)?));
    story.agree();
    let (device, own) = (story.world.engine(bob.0).unwrap().device(), story.world.engine(alice.0).unwrap().device());
    let error = story.ask(alice, Command::Block { device: own }).unwrap_err();
    assert!(error.to_string().contains("is this device"), "{error}");
    assert!(matches!(story.ask(alice, Command::Block { device }), Ok(Reply::Done)));

    // Bob's words go to Carol, and stay there.
    let alone = story.document(bob, space);
    story.edit(bob, alone, |edit| Ok(edit.set("/bob", 1)?));
    story.edit(bob, place, |edit| Ok(edit.set("/bob", 1)?));
    story.wait(60);
    let connected = |story: &mut Story| {
        let peers = story.world.engine(alice.0).unwrap().peers();
        let bob = peers.into_iter().find(|peer| peer.peer == device).unwrap();
        assert!(bob.blocked);
        bob.connected
    };
    assert!(!connected(&mut story));
    assert_eq!(story.read(carol, place, |view| view.get("/bob")), Some(json!(1)));
    assert_eq!(story.read(alice, place, |view| view.get("/bob")), None);
    assert!(story.world.engine(alice.0).unwrap().heads(&space, &alone.1).is_empty());

    // What was left out is not fetched again whenever something else changes.
    let checks = |story: &mut Story| {
        let Ok(Reply::Usage(usage)) = story.ask(alice, Command::MeasureUsage { space }) else { panic!("no usage") };
        let device = story.world.engine(carol.0).unwrap().device();
        usage.iter().find(|(other, _)| *other == device).unwrap().1.toll.checks
    };
    let before = checks(&mut story);
    let other = story.document(carol, space);
    for n in 0..5 {
        story.edit(carol, other, move |edit| Ok(edit.set("/n", n)?));
        story.wait(30);
    }
    assert_eq!(checks(&mut story) - before, 5);

    // Carol builds on one of them, though not on the other. What Bob writes after that is left out again.
    story.edit(carol, place, |edit| Ok(edit.set("/carol", 0)?));
    story.wait(60);
    assert_eq!(story.read(alice, place, |view| view.get("/bob")), Some(json!(1)));
    story.edit(bob, place, |edit| Ok(edit.set("/bob", 2)?));
    story.wait(60);
    assert_eq!(story.read(carol, place, |view| view.get("/bob")), Some(json!(2)));
    assert_eq!(story.read(alice, place, |view| view.get("/bob")), Some(json!(1)));

    // Nobody notices anything at a restart.
    story.edit(carol, place, |edit| Ok(edit.set("/carol", 1)?));
    story.kill(alice, 5);
    story.wait(120);
    assert!(!connected(&mut story));
    for (key, value) in [("/bob", 2), ("/carol", 1)] {
        assert_eq!(story.read(alice, place, |view| view.get(key)), Some(json!(value)), "{key}");
    }
    assert!(story.world.engine(alice.0).unwrap().heads(&space, &alone.1).is_empty());
    story.edit(alice, place, |edit| Ok(edit.set("/more", 1)?));
    story.wait(60);
    assert_eq!(story.read(bob, place, |view| view.get("/more")), Some(json!(1)));

    let Ok(Reply::Usage(usage)) = story.ask(alice, Command::MeasureUsage { space }) else { panic!("no usage") };
    let of = |who: Who, story: &mut Story| {
        let device = story.world.engine(who.0).unwrap().device();
        usage.iter().find(|(other, _)| *other == device).unwrap().1
    };
    let (of_alice, of_bob, of_carol) = (of(alice, &mut story), of(bob, &mut story), of(carol, &mut story));
    assert_eq!([of_alice.runs, of_bob.runs, of_carol.runs], [2, 2, 7]);
    assert!(of_bob.run_bytes > 100 && of_bob.run_bytes < 1_000, "{of_bob:?}");
    assert_eq!(
        [of_alice.entries, of_bob.entries],
        [5, 0],
        "the founding, and for each of two an invite and an admission"
    );
    assert_eq!(of_bob.toll.bytes, 0, "no session since the start");
    assert!(of_carol.toll.bytes > of_bob.run_bytes && of_carol.toll.checks >= 2, "{of_carol:?}");

    assert!(matches!(story.ask(alice, Command::Unblock { device }), Ok(Reply::Done)));
    assert!(matches!(story.ask(alice, Command::Unblock { device }), Ok(Reply::Done)), "once more does no harm");
    story.agree();
    assert_eq!(story.read(alice, alone, |view| view.get("/bob")), Some(json!(1)));
}

// More of it waited for who builds on it than may wait in a document, and none of it was merged.
#[test]
fn what_others_have_built_on_is_taken_however_much_it_is() {
    let mut scene = Scene::new(Role::Writer);
    let (alice, bob, device) = (scene.alice, scene.bob, scene.key.device());
    assert!(matches!(scene.story.ask(alice, Command::Block { device }), Ok(Reply::Done)));
    let place = scene.story.document(bob, scene.space);
    scene.story.edit(bob, place, |edit| Ok(edit.set("/honest", 1)?));
    scene.story.wait(5);
    let mut chain = Chain::new(ActorId([7; 16]), Vec::new(), 0);
    let runs: Vec<Run> =
        (0..ORPHANS_PER_DOCUMENT_MAX as u64 + 300).map(|n| scene.run(place.1, &[chain.grow(n)])).collect();
    for some in runs.chunks(400) {
        scene.send(bob, some);
        scene.story.wait(2);
    }
    scene.story.wait(60);
    let heads = |scene: &mut Scene, who: Who| scene.story.world.engine(who.0).unwrap().heads(&scene.space, &place.1);
    assert_eq!([bob, alice].map(|who| heads(&mut scene, who).len()), [2, 1]);
    scene.story.edit(bob, place, |edit| Ok(edit.set("/built", 1)?));
    scene.story.wait(120);
    assert_eq!(heads(&mut scene, alice), heads(&mut scene, bob));
    assert_eq!(scene.story.read(alice, place, |view| view.get("/built")), Some(json!(1)));
}

// Nobody could edit a document again in which one member had left more heads than a change may stand on.
#[test]
fn a_document_with_too_many_heads_can_be_edited_and_has_one_afterwards() {
    let mut scene = Scene::new(Role::Writer);
    let (alice, bob) = (scene.alice, scene.bob);
    let place = scene.story.document(alice, scene.space);
    scene.story.edit(alice, place, |edit| Ok(edit.set("/honest", 1)?));
    scene.story.wait(5);
    let heads = 2 * CHANGE_DEPS_MAX as u64 + 300;
    let runs: Vec<Run> = (0..heads)
        .map(|n| {
            let id = *blake3::hash(&n.to_be_bytes()).as_bytes().first_chunk().unwrap();
            scene.run(place.1, &[Chain::new(ActorId(id), Vec::new(), 0).grow(n)])
        })
        .collect();
    for some in runs.chunks(400) {
        scene.send(alice, some);
        scene.story.wait(2);
    }
    scene.story.wait(60);
    for who in [alice, bob] {
        let found = scene.story.world.engine(who.0).unwrap().heads(&scene.space, &place.1).len() as u64;
        assert_eq!(found, heads + 1, "{who:?}");
    }
    scene.story.edit(bob, place, |edit| Ok(edit.set("/mended", 1)?));
    scene.story.wait(30);
    for who in [alice, bob] {
        assert_eq!(scene.story.world.engine(who.0).unwrap().heads(&scene.space, &place.1).len(), 1, "{who:?}");
        assert_eq!(scene.story.read(who, place, |view| view.get("/mended")), Some(json!(1)), "{who:?}");
        assert_eq!(scene.counters(who).runs_refused, 0, "{who:?}");
    }
    scene.story.kill(bob, 1);
    scene.story.wait(5);
    scene.story.edit(bob, place, |edit| Ok(edit.set("/again", 1)?));
    scene.goes_on();
}

#[test]
fn a_flood_of_orphans_keeps_nobody_out_and_is_given_up_in_time() {
    let mut scene = Scene::new(Role::Writer);
    let alice = scene.alice;
    let flood = 3 * DOCUMENTS_UNRECORDED_PER_DEVICE_MAX as u64;
    let runs: Vec<Run> = (0..flood)
        .map(|n| {
            let missing = ChangeHash(*blake3::hash(&n.to_be_bytes()).as_bytes());
            let id = *missing.0.first_chunk().unwrap();
            let change = Chain::new(ActorId(id), vec![missing], 7).grow(1);
            scene.run(DocumentId(id), &[change])
        })
        .collect();
    for some in runs.chunks(128) {
        scene.send(alice, some);
        scene.story.wait(1);
    }
    let most = 2 * DOCUMENTS_UNRECORDED_PER_DEVICE_MAX as u64 - 128;
    assert!(scene.counters(alice).orphans_evicted >= most, "{:?}", scene.counters(alice));
    scene.goes_on();
    scene.story.wait(ORPHAN_AGE_MAX.0 / 1_000_000 + 10);
    assert!(scene.counters(alice).orphans_evicted >= flood, "{:?}", scene.counters(alice));
    scene.goes_on();
}

#[test]
fn roots_that_are_never_what_they_were_cost_a_bounded_number_of_reconciliations() {
    let mut scene = Scene::new(Role::Writer);
    let (alice, bob) = (scene.alice, scene.bob);
    let before = [alice, bob].map(|who| scene.counters(who));
    for n in 0..60u64 {
        for m in 0..50u64 {
            let lie = *blake3::hash(&(n * 50 + m).to_be_bytes()).as_bytes().first_chunk::<8>().unwrap();
            let spaces = vec![SpaceRoots { space: 0, members: lie.into(), documents: Some(lie.into()) }];
            let roots = Message::Roots { ask: 0, answer: 0, spaces };
            for victim in [alice, bob] {
                scene.say(victim, Lane::Control, &roots);
            }
        }
        scene.story.wait(1);
    }
    for (who, before) in [alice, bob].into_iter().zip(before) {
        let after = scene.counters(who);
        let begun = after.reconciliations - before.reconciliations;
        assert!(begun <= RECONCILIATIONS_BURST + 2 * 60 + 20, "{who:?} reconciled {begun} times in a minute");
        let bytes = after.bytes_out - before.bytes_out;
        assert!(bytes < 500_000, "{who:?} said {bytes} bytes in a minute");
    }
    scene.goes_on();
}

#[test]
fn a_member_cannot_make_a_space_read_only() {
    for role in [Role::Reader, Role::Writer] {
        let mut scene = Scene::new(role);
        let (alice, bob) = (scene.alice, scene.bob);
        brick(&mut scene, alice);
        scene.story.wait(10);
        for who in [alice, bob] {
            assert_eq!(scene.status(who).read_only, None);
        }
        let note = scene.story.document(alice, scene.space);
        scene.story.edit(alice, note, |edit| Ok(edit.set("/m", 1)?));
        scene.story.wait(5);
        scene.story.edit(bob, note, |edit| Ok(edit.set("/n", 1)?));
        scene.story.ticket(alice, scene.space, Role::Reader);
    }
}

#[test]
fn authority_that_an_admin_made_up_is_named_and_voided() {
    let mut scene = Scene::new(Role::Admin);
    let (alice, bob) = (scene.alice, scene.bob);
    let entry = brick(&mut scene, alice);
    scene.story.wait(10);
    for who in [alice, bob] {
        let reason = scene.status(who).read_only.expect("it is read-only");
        assert!(reason.contains(&entry.to_string()) && reason.contains(&scene.key.device().to_string()), "{reason}");
    }
    let space = scene.space;
    let by_a_writer = scene.story.ask(bob, Command::VoidEntry { space, entry });
    assert!(matches!(by_a_writer, Err(CommandError::NotAllowed(_))), "{by_a_writer:?}");
    assert!(matches!(scene.story.ask(alice, Command::VoidEntry { space, entry }), Ok(Reply::Done)));
    scene.story.wait(10);
    for who in [alice, bob] {
        assert_eq!(scene.status(who).read_only, None);
    }
    let again = scene.story.ask(alice, Command::VoidEntry { space, entry });
    assert!(matches!(again, Err(CommandError::Invalid(_))), "{again:?}");
}

/// Sends an entry of a kind with authority that nobody knows.
fn brick(scene: &mut Scene, victim: Who) -> EntryHash {
    let log = scene.story.world.log_of(scene.mallory.0, &scene.space);
    let own = log.iter().find(|entry| entry_hash(entry) == scene.acl.entries[0]).unwrap();
    let depth = forge::depth(own).unwrap() + 1;
    let entry = forge::entry(&scene.key, scene.space, &scene.acl.entries, depth, (7, &[0xf6]), [7; 16]);
    let hash = entry_hash(&entry);
    scene.say(victim, Lane::Control, &Message::Entries { space: 0, entries: vec![ByteVec::from(entry)] });
    hash
}

#[test]
fn a_log_larger_than_any_queue_reaches_who_joins() {
    let mut scene = Scene::new(Role::Admin);
    let (alice, bob) = (scene.alice, scene.bob);
    let mut prev = scene.acl.entries.clone();
    let log = scene.story.world.log_of(scene.mallory.0, &scene.space);
    let own = log.iter().find(|entry| entry_hash(entry) == prev[0]).unwrap();
    let mut depth = forge::depth(own).unwrap() + 1;
    let large = [&[0x59, 0x0e, 0x10][..], &[7; 3_600]].concat();
    let mut entries = Vec::new();
    for n in 0..1_400u32 {
        let nonce = *blake3::hash(&n.to_be_bytes()).as_bytes().first_chunk().unwrap();
        let entry = forge::entry(&scene.key, scene.space, &prev, depth, (200, &large), nonce);
        (prev, depth) = (vec![entry_hash(&entry)], depth + 1);
        entries.push(ByteVec::from(entry));
    }
    for some in entries.chunks(ENTRIES_PER_MESSAGE_MAX) {
        scene.say(alice, Lane::Control, &Message::Entries { space: 0, entries: some.to_vec() });
        scene.story.wait(1);
    }
    let carol = scene.story.someone("Carol");
    let ticket = scene.story.ticket(alice, scene.space, Role::Writer);
    scene.story.join(carol, ticket).expect("the log arrives");
    scene.story.wait(60);
    let members = |scene: &mut Scene, who: Who| scene.story.world.engine(who.0).unwrap().members(&scene.space).len();
    assert_eq!([alice, bob, carol].map(|who| members(&mut scene, who)), [4; 3]);
}

#[test]
fn one_members_rubbish_ends_only_its_own_sessions() {
    let mut scene = Scene::new(Role::Writer);
    let streams = scene.streams();
    assert_eq!(streams.len(), 1);
    let attacks = [
        Attack::Rubbish,
        Attack::Mutates,
        Attack::HugeLengths,
        Attack::TinyFrames,
        Attack::Greetings,
        Attack::Credit,
        Attack::Forges,
        Attack::Gaps,
        Attack::Inflates,
        Attack::BadEntries,
        Attack::LyingItems,
        Attack::Hints,
        Attack::Addresses,
    ];
    let mut done = 0;
    for salt in 0..130 {
        done += usize::from(scene.story.world.strike(scene.mallory.0, attacks[salt as usize % attacks.len()], salt));
        scene.story.wait(2);
        assert_eq!(scene.streams(), streams, "after {:?}", attacks[salt as usize % attacks.len()]);
    }
    assert!(done > 100, "{done} of 130 attacks had somebody to go to");
    scene.goes_on();
}

#[test]
fn a_million_tiny_frames_keep_nobody_out() {
    let mut scene = Scene::new(Role::Writer);
    let (mallory, alice) = (scene.mallory.0, scene.alice.0);
    let streams = scene.streams();
    // Each of them is an event, and small worlds have an end.
    scene.story.world.options.size = Size::Large;
    let before = scene.counters(scene.alice);
    let told = |scene: &Scene| scene.story.world.attackers[&mallory].traffic.get(&alice).map_or(0, |(to, _)| *to);
    let told_before = told(&scene);
    for n in 0..100 {
        // A message of a kind that nobody knows, with nothing in it, in four bytes.
        let frames = (0..10_000).map(|i| vec![0x10, 3, 0x81, 18 + ((n + i) % 6) as u8]).collect();
        assert!(scene.story.world.inject_frames(mallory, alice, frames), "round {n}: there is a session");
        scene.story.wait(1);
        assert_eq!(scene.streams(), streams, "round {n}");
    }
    let heard = scene.counters(scene.alice).frames_in - before.frames_in;
    assert!(heard >= 1_000_000, "{heard} frames arrived");
    // Keep-alives and roots of two minutes.
    let answered = told(&scene) - told_before;
    assert!(answered < 100_000, "{answered} bytes of answers");
    scene.goes_on();
}
