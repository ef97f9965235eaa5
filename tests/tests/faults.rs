//! What single faults do to replicas, told one by one: real engines and stores, virtual time.

use anabranch_engine::id::SpaceId;
use anabranch_engine::space::roles::Role;
use anabranch_engine::{Command, CommandError, Reply};
use anabranch_tests::sim::ailments::Ailment;
use anabranch_tests::sim::clock::{ClockFault, YEAR_S};
use anabranch_tests::sim::ledger::Place;
use anabranch_tests::sim::plan::Crash;
use anabranch_tests::sim::story::{Story, Who};
use anabranch_tests::sim::{MILLIS, SECONDS};
use serde_json::json;

/// Alice founds a space, the others join it as writers.
fn friends(story: &mut Story, names: &[&'static str]) -> (Vec<Who>, SpaceId) {
    let who: Vec<Who> = names.iter().map(|name| story.someone(name)).collect();
    let space = story.space(who[0], "notes");
    for joiner in &who[1..] {
        story.invite(who[0], space, *joiner, Role::Writer);
    }
    (who, space)
}

/// Virtual microseconds until two have the same heads of a document.
fn propagation(story: &mut Story, from: Who, to: Who, place: Place) -> u64 {
    let begin = story.world.now;
    let arrived = story.world.run_while_not(MILLIS, 60 * SECONDS, |world| {
        let heads = |who: Who| world.replicas[who.0].process.as_ref().map(|p| p.engine.heads(&place.0, &place.1));
        let (here, there) = (heads(from), heads(to));
        here.is_some_and(|heads| !heads.is_empty()) && heads(from) == there
    });
    story.check();
    assert!(arrived, "it does not arrive within a minute");
    story.world.now - begin
}

fn is_connected(story: &mut Story, who: Who, to: Who) -> bool {
    let device = story.world.replicas[to.0].device;
    let engine = story.world.engine(who.0).expect("it runs");
    engine.peers().into_iter().any(|peer| peer.peer == device && peer.connected)
}

/// The end of the second of two sessions counted as the beginning of an outage. So a short one that came later was met with the
/// waits of a long one: it took up to a minute to find each other.
#[test]
fn who_was_away_for_minutes_is_found_again_in_seconds() {
    let after = |outage: u64| {
        let mut story = Story::new();
        let (who, space) = friends(&mut story, &["Alice", "Bob"]);
        let place = story.document(who[0], space);
        story.edit(who[0], place, |edit| Ok(edit.set("/v", 1)?));
        story.agree();
        // Bob loses his end of their connection and dials again: Alice has two for a moment. Then she moves to where nobody can
        // dial her, so that it is for her to find him.
        story.world.half_open(who[1].0, who[0].0);
        story.wait(20);
        story.world.replicas[who[0].0].listens = false;
        story.wait(11 * 60);
        story.cut(&who[..1], &who[1..]);
        story.wait(outage);
        story.edit(who[0], place, |edit| Ok(edit.set("/v", 2)?));
        story.mend();
        story.agree()
    };
    let slowest = (15..25).map(|tens| after(10 * tens)).max();
    assert!(slowest < Some(18_000), "{slowest:?} ms");
}

/// A join is answered when it is on disk. On a slow disk a space could be left before that, and then it was said to be here. And
/// who asked a second time was answered at once.
#[test]
fn nobody_is_told_of_a_space_that_was_left_meanwhile() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let carol = story.someone("Carol");
    let ticket = story.ticket(who[0], space, Role::Writer);
    story.world.ail(carol.0, Ailment::SlowDisk, 600 * SECONDS);
    let joining = story.begin(carol, Command::Join { ticket: ticket.clone() });
    let joined = story.world.run_while_not(MILLIS, 60 * SECONDS, |world| {
        world.engine(carol.0).is_some_and(|engine| engine.spaces().iter().any(|status| status.role.is_some()))
    });
    assert!(joined, "Carol is not let in");
    let again = story.begin(carol, Command::Join { ticket: ticket.clone() });
    let leaving = story.begin(carol, Command::LeaveSpace { space });
    // This one waits until what was here is removed.
    let once_more = story.begin(carol, Command::Join { ticket });
    let leaving_again = story.begin(carol, Command::LeaveSpace { space });
    for joining in [joining, again, once_more] {
        let answer = story.answer(carol, joining);
        assert!(matches!(answer, Err(CommandError::UnknownSpace(left)) if left == space), "{answer:?}");
    }
    for leaving in [leaving, leaving_again] {
        let answer = story.answer(carol, leaving);
        assert!(matches!(answer, Ok(Reply::Done)), "{answer:?}");
    }
    story.wait(60);
    assert!(story.world.engine(carol.0).is_some_and(|engine| engine.spaces().is_empty()));
}

/// Who has forgotten where the others are takes another ticket. Its addresses were forgotten at the next start, if nobody had
/// been met by then.
#[test]
fn addresses_of_a_ticket_are_kept_until_a_member_was_met_there() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let bob = story.someone_unreachable("Bob");
    let space = story.space(alice, "notes");
    story.invite(alice, space, bob, Role::Writer);
    let note = story.document(alice, space);
    story.agree();
    story.cut(&[alice], &[bob]);
    let device = story.world.replicas[alice.0].device;
    assert!(matches!(story.ask(bob, Command::ForgetPeer { peer: device }), Ok(Reply::Done)));
    let ticket = story.ticket(alice, space, Role::Writer);
    story.join(bob, ticket).unwrap();
    story.kill(bob, 1);
    story.edit(alice, note, |edit| Ok(edit.set("/n", 1)?));
    story.wait(10);
    story.mend();
    story.agree();
    assert_eq!(story.json(bob, note), json!({ "n": 1 }));
    story.is_silent();
}

#[test]
fn a_slow_peer_does_not_slow_the_others() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob", "Sloth"]);
    let (alice, bob, sloth) = (who[0], who[1], who[2]);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/n", 0)?));
    story.agree();
    let slowest = |story: &mut Story, round: u8| {
        (0..20u8)
            .map(|n| {
                // Bytes that do not compress, so that a slow line really is behind.
                let noise: Vec<u8> = (0..8_000u32).map(|i| (i * i % 251) as u8 ^ n ^ round).collect();
                story.edit(alice, note, |edit| Ok(edit.set_bytes("/blob", &noise)?));
                propagation(story, alice, bob, note)
            })
            .max()
            .unwrap()
    };
    let before = slowest(&mut story, 1);
    story.world.ail(sloth.0, Ailment::SlowLinks, 900 * SECONDS);
    let during = slowest(&mut story, 2);
    assert!(during <= 2 * before, "{during} us where it took {before} us without a slow peer");
    assert_ne!(story.json(alice, note), story.json(sloth, note), "the slow peer is behind");
    story.world.ail(sloth.0, Ailment::DoesNotRead, 900 * SECONDS);
    let during = slowest(&mut story, 3);
    assert!(during <= 2 * before, "{during} us where it took {before} us without a peer that does not read");
    story.wait(900);
    story.agree();
    story.is_silent();
}

#[test]
fn a_machine_that_is_gone_without_a_word_is_noticed_within_thirty_seconds() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let (alice, bob) = (who[0], who[1]);
    let note = story.document(bob, space);
    story.edit(bob, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.world.crash(alice.0, Crash::PowerCut, 300 * SECONDS);
    story.wait(10);
    assert!(is_connected(&mut story, bob, alice), "nobody has told");
    story.wait(21);
    assert!(!is_connected(&mut story, bob, alice), "silent for 31 s");
    story.edit(bob, note, |edit| Ok(edit.set("/b", 2)?));
    story.wait(300);
    story.agree();
}

#[test]
fn a_half_open_connection_is_replaced() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let (alice, bob) = (who[0], who[1]);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.world.half_open(alice.0, bob.0);
    assert_eq!(story.world.stats.half_opens, 1);
    story.edit(bob, note, |edit| Ok(edit.set("/b", 2)?));
    let ms = story.agree();
    assert!(ms < 5_000, "Alice dials again at once and Bob takes the new connection for the old one: {ms} ms");
    story.is_silent();
}

#[test]
fn a_process_that_was_stopped_for_ten_minutes_goes_on() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob", "Carol"]);
    let (alice, bob, carol) = (who[0], who[1], who[2]);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.edit(bob, note, |edit| Ok(edit.set("/before", true)?));
    story.world.ail(bob.0, Ailment::Stopped, 600 * SECONDS);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 2)?));
    assert!(propagation(&mut story, alice, carol, note) < SECONDS, "the others go on");
    story.wait(590);
    assert!(!is_connected(&mut story, carol, bob), "nothing was heard of Bob for minutes");
    story.wait(11);
    assert!(!story.world.is_stopped(bob.0));
    story.edit(bob, note, |edit| Ok(edit.set("/after", true)?));
    story.agree();
    assert_eq!(story.json(carol, note), json!({ "a": 2, "after": true, "before": true }));
    story.is_silent();
}

#[test]
fn a_second_process_on_a_store_is_told_and_the_first_goes_on() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let note = story.document(who[0], space);
    story.world.start_second(who[0].0);
    story.check();
    assert_eq!(story.world.stats.second_processes, 1);
    story.edit(who[0], note, |edit| Ok(edit.set("/a", 1)?));
    story.saved(who[0]);
    story.agree();
}

#[test]
fn clocks_may_say_anything() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob", "Carol"]);
    let note = story.document(who[0], space);
    let faults = [
        (0, ClockFault::WallJump(YEAR_S)),
        (1, ClockFault::WallJump(-YEAR_S)),
        // A machine without a clock begins in 1970, a broken one before.
        (0, ClockFault::WallJump(-57 * YEAR_S)),
        (1, ClockFault::WallJump(-100 * YEAR_S)),
        (2, ClockFault::WallRate(0)),
        (0, ClockFault::MonoRate(2_000)),
        (1, ClockFault::MonoRate(500)),
        (2, ClockFault::MonoLeap(86_400 * SECONDS)),
    ];
    for (n, (index, fault)) in faults.into_iter().enumerate() {
        story.world.disturb_clock(who[index].0, fault);
        story.edit(who[index], note, |edit| Ok(edit.set(format!("/k{n}").as_str(), n)?));
        story.agree();
        story.wait(60);
    }
    assert_eq!(story.json(who[2], note).as_object().map(serde_json::Map::len), Some(8));
}

#[test]
fn a_stream_that_ends_inside_any_frame_leaves_nothing_half_applied() {
    let mut cut = 0;
    for after in 0..1_000 {
        let mut story = Story::new();
        let (who, space) = friends(&mut story, &["Alice", "Bob"]);
        let (alice, bob) = (who[0], who[1]);
        let note = story.document(alice, space);
        story.edit(alice, note, |edit| Ok(edit.set("/n", 0)?));
        story.agree();
        story.open(bob, note);
        story.cut(&[alice], &[bob]);
        // More than one run each way, some of several changes.
        for n in 1..4 {
            story.edit(alice, note, |edit| Ok(edit.set("/n", n)?));
            story.edit(bob, note, |edit| Ok(edit.set("/m", n)?));
            story.saved(alice);
            story.saved(bob);
        }
        story.world.cut_a_frame(alice.0, bob.0, after);
        story.mend();
        while story.world.stats.frames_cut == 0 && story.world.now < 200 * SECONDS {
            story.wait(1);
        }
        for reader in [alice, bob] {
            let history = story.read(reader, note, |view| view.history());
            for change in &history {
                for dep in &change.deps {
                    assert!(history.iter().any(|other| other.hash == *dep), "a change without what it depends on");
                }
            }
        }
        story.agree();
        assert_eq!(story.json(bob, note), json!({ "n": 3, "m": 3 }));
        if story.world.stats.frames_cut == 0 {
            break;
        }
        cut += 1;
    }
    assert!(cut > 20, "only {cut} frames are exchanged");
}

#[test]
fn a_replica_that_goes_on_from_a_backup_gets_back_what_it_had_sent_and_continues_no_actor() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let (alice, bob) = (who[0], who[1]);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/n", 1)?));
    story.saved(alice);
    story.agree();
    story.back_up(alice);
    for n in 2..5 {
        story.edit(alice, note, |edit| Ok(edit.set("/n", n)?));
    }
    story.saved(alice);
    story.agree();
    story.cut(&[alice], &[bob]);
    // Until each has given the other up, so that nothing is on its way.
    story.wait(60);
    story.edit(alice, note, |edit| Ok(edit.set("/never_sent", true)?));
    story.saved(alice);
    story.restore(alice, 2);
    assert_eq!(story.json(alice, note), json!({ "n": 1 }), "as it was backed up");
    story.edit(alice, note, |edit| Ok(edit.set("/after", true)?));
    story.mend();
    story.agree();
    // What only the lost disk had is lost; everything else is back.
    assert_eq!(story.json(alice, note), json!({ "after": true, "n": 4 }));
    assert_eq!(story.world.ledger.excused(), 1);
    story.wait(60);
    story.is_silent();
}

#[test]
fn both_of_a_machine_and_its_copy_are_heard() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob", "Carol"]);
    let (alice, bob, carol) = (who[0], who[1], who[2]);
    let note = story.document(bob, space);
    story.edit(bob, note, |edit| Ok(edit.set("/n", 1)?));
    story.saved(bob);
    story.agree();
    let copy = story.copy(bob, "Bob's copy");
    for n in 2..6 {
        story.edit(bob, note, |edit| Ok(edit.set("/original", n)?));
        story.edit(copy, note, |edit| Ok(edit.set("/copy", n)?));
        story.wait(20);
    }
    story.saved(bob);
    story.saved(copy);
    story.agree();
    assert_eq!(story.json(carol, note), json!({ "n": 1, "original": 5, "copy": 5 }));
    assert!(story.world.stats.copies_noticed > 0, "Alice is told that Bob runs twice");
    let device = story.world.replicas[bob.0].device;
    let sessions = story.world.connected(alice.0, bob.0) && story.world.connected(alice.0, copy.0);
    assert!(sessions, "neither of {device:.8} pushes the other out");
    story.is_silent();
}

#[test]
fn a_copy_with_a_key_of_its_own_keeps_what_it_wrote_and_brings_it_when_it_is_let_in() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob", "Carol"]);
    let (alice, bob, carol) = (who[0], who[1], who[2]);
    let note = story.document(bob, space);
    story.edit(bob, note, |edit| Ok(edit.set("/n", 1)?));
    story.saved(bob);
    story.agree();
    let copy = story.copy(bob, "Bob's copy");
    story.wait(60);
    let device = story.world.replicas[bob.0].device;
    let copied = |story: &mut Story, who: Who| {
        let engine = story.world.engine(who.0).unwrap();
        engine.copied(&device).map(|copied| copied.now)
    };
    for told in [alice, bob, copy] {
        assert_eq!(copied(&mut story, told), Some(true), "{told:?} is told");
    }
    story.renew(copy);
    assert_ne!(story.world.replicas[copy.0].device, device);
    for told in [alice, bob] {
        assert_eq!(copied(&mut story, told), Some(false), "{told:?} is told that it is over");
    }
    story.open(copy, note);
    story.edit(copy, note, |edit| Ok(edit.set("/offline", 2)?));
    story.saved(copy);
    story.wait(60);
    assert_eq!(story.json(carol, note), json!({ "n": 1 }), "nobody has let it in");
    let ticket = story.ticket(alice, space, Role::Writer);
    story.join(copy, ticket).unwrap();
    story.agree();
    assert_eq!(story.json(carol, note), json!({ "n": 1, "offline": 2 }));
    story.is_silent();
}

#[test]
fn who_left_a_space_can_come_back_with_the_old_ticket() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let bob = story.someone("Bob");
    let space = story.space(alice, "notes");
    let ticket = story.ticket(alice, space, Role::Writer);
    story.join(bob, ticket.clone()).unwrap();
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.edit(bob, note, |edit| Ok(edit.set("/b", 2)?));
    story.agree();
    story.leave(bob, space);
    assert!(story.world.engine(bob.0).unwrap().documents(&space).is_empty());
    story.edit(alice, note, |edit| Ok(edit.set("/c", 3)?));
    story.wait(30);
    // It admits one, and has: Bob is still that one.
    story.join(bob, ticket).unwrap();
    story.agree();
    assert_eq!(story.json(bob, note), json!({ "a": 1, "b": 2, "c": 3 }));
    story.edit(bob, note, |edit| Ok(edit.set("/d", 4)?));
    story.agree();
    story.is_silent();
}

#[test]
fn a_copied_memory_forks_a_document_which_is_named_and_hurts_no_other() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let (alice, bob) = (who[0], who[1]);
    let (forked, other) = (story.document(alice, space), story.document(alice, space));
    for note in [forked, other] {
        story.edit(alice, note, |edit| Ok(edit.set("/n", 1)?));
    }
    story.agree();
    story.cut(&[alice], &[bob]);
    let copy = story.copy_memory(bob, "Bob's copy");
    story.cut(&[alice], &[copy]);
    let mut actors = Vec::new();
    for (n, twin) in [bob, copy].into_iter().enumerate() {
        story.edit(twin, forked, |edit| Ok(edit.set("/twin", n)?));
        actors.push(story.read(twin, forked, |view| view.history().last().map(|change| (change.actor, change.seq))));
    }
    assert_eq!(actors[0], actors[1], "the two write under the same number");
    story.saved(bob);
    story.saved(copy);
    story.mend();
    story.wait(120);
    assert!(story.world.stats.forks_named > 0, "somebody says so");
    // The document goes its two ways; everything else goes on.
    for (n, writer) in [alice, bob, copy].into_iter().enumerate() {
        story.edit(writer, other, |edit| Ok(edit.set(format!("/k{n}").as_str(), n)?));
        story.wait(60);
    }
    for reader in [alice, bob, copy] {
        assert_eq!(story.json(reader, other), json!({ "k0": 0, "k1": 1, "k2": 2, "n": 1 }));
        assert_eq!(story.read(reader, forked, |view| view.get("/n")), Some(json!(1)));
    }
    // What cannot be agreed on is tried again, less and less often, and costs no more than that.
    story.wait(600);
    let said = |story: &Story| {
        let processes = story.world.replicas.iter().flat_map(|replica| &replica.process);
        processes.map(|process| process.engine.counters().data_messages_out).sum::<u64>()
    };
    let before = said(&story);
    story.wait(600);
    let after = said(&story) - before;
    assert!(after <= 3 * 10 * 12, "{after} messages in ten minutes");
}
