//! Behaviour between replicas, told one by one: real engines and stores, a simulated network, virtual time.

use std::collections::BTreeSet;

use anabranch_engine::document::EditError;
use anabranch_engine::id::{DocumentId, SpaceId};
use anabranch_engine::space::roles::Role;
use anabranch_engine::{Begins, Command, CommandError, DocumentError, Reply};
use anabranch_tests::sim::Options;
use anabranch_tests::sim::clock::ClockFault;
use anabranch_tests::sim::story::{Story, Who};
use serde_json::json;

/// Alice founds a space, Bob joins it as a writer.
fn alice_and_bob(story: &mut Story) -> (Who, Who, SpaceId) {
    let alice = story.someone("Alice");
    let bob = story.someone("Bob");
    let space = story.space(alice, "notes");
    story.invite(alice, space, bob, Role::Writer);
    (alice, bob, space)
}

#[test]
fn both_write_while_the_link_is_down_and_agree_when_it_is_back() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| {
        edit.set("/title", "shopping")?;
        edit.set("/items", json!(["bread"]))?;
        Ok(edit.set_counter("/count", 1)?)
    });
    story.agree();

    story.cut(&[alice], &[bob]);
    story.edit(alice, note, |edit| {
        edit.set("/title", "groceries")?;
        edit.insert("/items/-", "milk")?;
        Ok(edit.increment("/count", 1)?)
    });
    story.edit(bob, note, |edit| {
        edit.set("/title", "weekend")?;
        edit.insert("/items/0", "apples")?;
        Ok(edit.increment("/count", 1)?)
    });
    story.wait(90);
    assert_eq!(story.read(alice, note, |view| view.get("/title")), Some(json!("groceries")));
    assert_eq!(story.read(bob, note, |view| view.get("/title")), Some(json!("weekend")));

    story.mend();
    story.agree();
    assert_eq!(story.read(bob, note, |view| view.get("/items")), Some(json!(["apples", "bread", "milk"])));
    assert_eq!(story.read(bob, note, |view| view.get("/count")), Some(json!(3)));
    let mut titles: Vec<_> =
        story.read(alice, note, |view| view.conflicts("/title")).into_iter().map(|conflict| conflict.value).collect();
    titles.sort_by_key(ToString::to_string);
    assert_eq!(titles, [json!("groceries"), json!("weekend")]);
    story.is_silent();
}

#[test]
fn two_tabs_and_a_peer_type_into_one_text_and_each_is_where_it_meant() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let page = story.document(alice, space);
    story.edit(alice, page, |edit| Ok(edit.set("/text", "one three five")?));
    story.agree();
    let seen = story.read(alice, page, |view| view.heads());
    let (mut left, mut right) = (story.editor(alice, page), story.editor(alice, page));
    story.edit(bob, page, |edit| Ok(edit.splice_text("/text", 0, 0, "zero ")?));
    story.agree();
    story.edit_at(alice, &mut left, &seen, |edit| Ok(edit.splice_text("/text", 4, 0, "two ")?));
    story.edit_at(alice, &mut right, &seen, |edit| Ok(edit.splice_text("/text", 10, 0, "four ")?));
    // Nobody has told it of what it did itself.
    story.edit_at(alice, &mut left, &seen, |edit| Ok(edit.splice_text("/text", 18, 0, ".")?));
    story.agree();
    assert_eq!(story.json(bob, page)["text"], "zero one two three four five.");
    assert_eq!(story.json(alice, page), story.json(bob, page));
}

#[test]
fn an_edit_arrives_within_a_moment() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.open(bob, note);
    for n in 2..6 {
        story.edit(alice, note, |edit| Ok(edit.set("/a", n)?));
        let ms = story.agree();
        assert!(ms < 200, "with 20 ms of latency it took {ms} ms");
    }
}

#[test]
fn a_readers_edit_is_refused_and_nothing_leaves() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let rita = story.someone("Rita");
    let space = story.space(alice, "minutes");
    story.invite(alice, space, rita, Role::Reader);
    let minutes = story.document(alice, space);
    story.edit(alice, minutes, |edit| Ok(edit.set("/text", "decided")?));
    story.agree();
    story.wait(60);

    let before = story.json(rita, minutes);
    let sent = story.world.engine(rita.0).unwrap().counters().data_messages_out;
    let refused = story.try_edit(rita, minutes, |edit| Ok(edit.set("/text", "not so")?));
    assert!(matches!(&refused, Err(DocumentError::NotAWriter(_))), "{refused:?}");
    assert_eq!(refused.unwrap_err().to_string(), "this device is a reader in the space, a writer is needed");
    story.wait(60);
    assert_eq!(story.json(rita, minutes), before);
    assert_eq!(story.world.engine(rita.0).unwrap().counters().data_messages_out, sent);

    // Everything else goes on.
    story.edit(alice, minutes, |edit| Ok(edit.set("/text", "decided again")?));
    story.agree();
    assert_eq!(story.read(rita, minutes, |view| view.get("/text")), Some(json!("decided again")));
}

#[test]
fn a_late_joiner_gets_everything() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let mut places = Vec::new();
    for n in 0..40 {
        let who = if n % 2 == 0 { alice } else { bob };
        let place = story.document(who, space);
        story.edit(who, place, |edit| Ok(edit.set("/n", n)?));
        places.push(place);
    }
    story.agree();
    let carol = story.someone("Carol");
    story.invite(alice, space, carol, Role::Writer);
    story.agree();
    for (n, place) in places.into_iter().enumerate() {
        assert_eq!(story.read(carol, place, |view| view.get("/n")), Some(json!(n)));
    }
    story.is_silent();
}

#[test]
fn a_power_cut_loses_nothing_saved_and_no_actor_is_continued() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    for n in 0..10 {
        story.edit(alice, note, |edit| Ok(edit.set("/n", n)?));
    }
    story.saved(alice);
    story.edit(alice, note, |edit| Ok(edit.set("/unsaved", true)?));
    story.power_cut(alice, 2);
    assert_eq!(story.read(alice, note, |view| view.get("/n")), Some(json!(9)));
    story.edit(alice, note, |edit| Ok(edit.set("/after", true)?));
    story.agree();
    let actors = story.read(bob, note, |view| {
        let mut actors: Vec<_> = view.history().into_iter().map(|change| change.actor).collect();
        actors.sort_unstable();
        actors.dedup();
        actors
    });
    assert_eq!(actors.len(), 2, "one actor before the power cut, another one after it");
    assert_eq!(story.read(bob, note, |view| view.get("/after")), Some(json!(true)));
}

#[test]
fn what_was_sent_before_a_crash_comes_back_from_peers() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/n", 1)?));
    story.agree();
    story.edit(alice, note, |edit| Ok(edit.set("/n", 2)?));
    story.agree();
    story.kill(alice, 5);
    story.edit(bob, note, |edit| Ok(edit.set("/m", 3)?));
    story.agree();
    assert_eq!(story.json(alice, note), json!({ "m": 3, "n": 2 }));
}

#[test]
fn equal_replicas_are_silent() {
    let mut story = Story::new();
    let (alice, _bob, space) = alice_and_bob(&mut story);
    let carol = story.someone("Carol");
    story.invite(alice, space, carol, Role::Reader);
    for n in 0..5 {
        let note = story.document(alice, space);
        story.edit(alice, note, |edit| Ok(edit.set("/n", n)?));
    }
    story.agree();
    story.is_silent();
}

#[test]
fn hints_and_live_lanes_may_lose_everything() {
    let mut options = Options::calm(2);
    options.network.lose_live = true;
    options.network.lose_hints = true;
    let mut story = Story::with(options);
    let (alice, bob, space) = alice_and_bob(&mut story);
    let carol = story.someone("Carol");
    story.invite(alice, space, carol, Role::Writer);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.edit(bob, note, |edit| Ok(edit.set("/b", 2)?));
    story.edit(carol, note, |edit| Ok(edit.set("/c", 3)?));
    story.agree();
    assert_eq!(story.json(alice, note), json!({ "a": 1, "b": 2, "c": 3 }));
    assert!(story.world.stats.live_lost > 0, "there was a live lane to lose");
    story.is_silent();
}

/// The bug: a reader stayed one whatever it was invited to, and was told that it had joined. The cause: joining ended where there
/// was any role. The fix: a member signs another joining, if the invite in its log gives it more.
#[test]
fn a_reader_with_a_writers_ticket_writes_at_once_also_when_the_inviter_is_away() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let rita = story.someone("Rita");
    let space = story.space(alice, "notes");
    story.invite(alice, space, rita, Role::Reader);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    let ticket = story.ticket(alice, space, Role::Writer);
    story.agree();

    story.cut(&[alice], &[rita]);
    story.join(rita, ticket).unwrap();
    assert_eq!(story.role(rita, space), Some(Role::Writer));
    story.open(rita, note);
    story.edit(rita, note, |edit| Ok(edit.set("/b", 2)?));
    story.kill(rita, 1);
    story.wait(5);
    assert_eq!(story.role(rita, space), Some(Role::Writer), "it is on disk");

    story.mend();
    story.agree();
    assert_eq!(story.read(alice, note, |view| view.get("/b")), Some(json!(2)));
    story.is_silent();
}

#[test]
fn an_invitation_that_the_log_does_not_show_waits_for_a_member_that_knows_it() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let rita = story.someone("Rita");
    let space = story.space(alice, "notes");
    story.invite(alice, space, rita, Role::Reader);
    story.agree();
    story.cut(&[alice], &[rita]);
    let ticket = story.ticket(alice, space, Role::Admin);
    let asked = story.begin(rita, Command::Join { ticket });
    story.wait(20);
    assert_eq!(story.role(rita, space), Some(Role::Reader), "it stays what it is");
    story.mend();
    assert!(matches!(story.answer(rita, asked), Ok(Reply::SpaceReady(_))));
    story.world.ledger.joined(rita.0, space, Role::Admin);
    assert_eq!(story.role(rita, space), Some(Role::Admin));
    let carol = story.someone("Carol");
    story.invite(rita, space, carol, Role::Writer);
    story.agree();
    story.is_silent();
}

#[test]
fn another_ticket_takes_no_role_away_and_one_that_is_used_twice_counts_once() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let carol = story.someone("Carol");
    let mallory = story.someone("Mallory");
    let (lesser, greater) = (story.ticket(alice, space, Role::Reader), story.ticket(alice, space, Role::Admin));
    for ticket in [&lesser, &greater, &greater, &lesser] {
        assert!(matches!(story.ask(bob, Command::Join { ticket: ticket.clone() }), Ok(Reply::SpaceReady(_))));
    }
    story.world.ledger.joined(bob.0, space, Role::Admin);
    assert_eq!(story.role(bob, space), Some(Role::Admin));
    story.agree();
    // What gave nothing was not used; what was used is.
    story.join(carol, lesser).unwrap();
    story.world.expects_refusals = true;
    let refused = story.join(mallory, greater.clone()).unwrap_err();
    assert!(refused.to_string().contains("this ticket has already been used (1 of 1 times)"), "{refused}");
    let refused = story.ask(carol, Command::Join { ticket: greater }).unwrap_err();
    assert!(refused.to_string().contains("this ticket has already been used (1 of 1 times)"), "{refused}");
    assert_eq!(story.role(carol, space), Some(Role::Reader), "it stays a member");
}

#[test]
fn who_leaves_and_joins_with_a_better_ticket_has_the_better_role() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let rita = story.someone("Rita");
    let space = story.space(alice, "notes");
    story.invite(alice, space, rita, Role::Reader);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.leave(rita, space);
    story.invite(alice, space, rita, Role::Writer);
    assert_eq!(story.role(rita, space), Some(Role::Writer));
    story.agree();
    story.open(rita, note);
    story.edit(rita, note, |edit| Ok(edit.set("/b", 2)?));
    story.agree();
}

/// Members were told every address that a machine ever had, and dialed those that no longer existed.
#[test]
fn a_machine_in_another_network_is_found_there_within_seconds() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    for n in 2..6 {
        story.move_elsewhere(alice);
        // Nothing says that the connection is dead but that nobody answers on it.
        story.wait(12);
        assert_eq!(story.known_addresses(bob, alice)[0], story.world.address_of(alice.0));
        story.edit(alice, note, |edit| Ok(edit.set("/a", n)?));
        let ms = story.agree();
        assert!(ms < 2_000, "it took {ms} ms");
    }
    let now = story.world.address_of(alice.0);
    assert_eq!(story.world.engine(alice.0).unwrap().listening(), [now]);
    let known = story.known_addresses(bob, alice);
    assert!(known.len() <= 2, "where it was missed is forgotten: {known:?}");
}

#[test]
fn members_are_dialed_at_once_after_sleep() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    story.cut(&[alice], &[bob]);
    // Long enough that they wait a minute between two dials.
    story.wait(1_500);
    story.mend();
    let asleep_s = 3_600;
    story.world.disturb_clock(bob.0, ClockFault::WallJump(asleep_s));
    // Any turn will do; the driver gives one within five seconds.
    story.open(bob, note);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 2)?));
    let ms = story.agree();
    assert!(ms < 12_000, "it took {ms} ms");
}

#[test]
fn a_single_use_ticket_admits_one() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let bob = story.someone("Bob");
    let mallory = story.someone("Mallory");
    let space = story.space(alice, "board");
    let ticket = story.ticket(alice, space, Role::Writer);
    story.join(bob, ticket.clone()).unwrap();
    story.world.expects_refusals = true;
    let refused = story.join(mallory, ticket).unwrap_err();
    assert!(matches!(&refused, CommandError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("this ticket has already been used (1 of 1 times)"), "{refused}");

    // Everything else goes on.
    let board = story.document(bob, space);
    story.edit(bob, board, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    assert_eq!(story.world.engine(alice.0).unwrap().members(&space).len(), 2);
}

#[test]
fn a_third_peer_forwards_between_two_that_never_meet() {
    let mut story = Story::new();
    let hub = story.someone("Hub");
    let left = story.someone_unreachable("Left");
    let right = story.someone_unreachable("Right");
    let space = story.space(hub, "news");
    story.invite(hub, space, left, Role::Writer);
    story.invite(hub, space, right, Role::Writer);
    let news = story.document(left, space);
    story.edit(left, news, |edit| Ok(edit.set("/from", "left")?));
    story.agree();
    story.edit(right, news, |edit| Ok(edit.set("/to", "right")?));
    story.agree();
    assert!(!story.world.connected(left.0, right.0));
    assert_eq!(story.json(left, news), json!({ "from": "left", "to": "right" }));
}

#[test]
fn a_reader_lets_nobody_in_and_a_writer_does() {
    let mut story = Story::new();
    let left = story.someone("Left");
    let hub = story.someone("Hub");
    let right = story.someone_unreachable("Right");
    story.cut(&[left], &[right]);
    let space = story.space(left, "news");
    story.invite(left, space, hub, Role::Reader);
    let ticket = story.ticket_with(left, space, Role::Writer, &[hub]);
    let joining = story.begin(right, Command::Join { ticket });
    story.wait(30);
    assert_eq!(story.role(right, space), None);
    story.invite(left, space, hub, Role::Writer);
    assert!(matches!(story.answer(right, joining), Ok(Reply::SpaceReady(_))));
    story.world.ledger.joined(right.0, space, Role::Writer);
    let news = story.document(left, space);
    story.edit(left, news, |edit| Ok(edit.set("/from", "left")?));
    story.agree();
    story.edit(right, news, |edit| Ok(edit.set("/to", "right")?));
    story.agree();
    assert_eq!(story.json(left, news), json!({ "from": "left", "to": "right" }));
}

#[test]
fn a_large_text_arrives_whole() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let book = story.document(alice, space);
    let text: String = (0..20_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    story.edit(alice, book, |edit| Ok(edit.set("/text", text.clone())?));
    story.edit(alice, book, |edit| Ok(edit.splice_text("/text", 10_000, 5, "HERE")?));
    let expected = format!("{}HERE{}", &text[..10_000], &text[10_005..]);
    story.agree();
    assert_eq!(story.read(bob, book, |view| view.text("/text")), Some(expected));
}

#[test]
fn a_document_can_be_read_as_it_was() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    let mut versions = Vec::new();
    for n in 0..5 {
        story.edit(alice, note, |edit| Ok(edit.set("/n", n)?));
        versions.push(story.read(alice, note, |view| view.heads()));
    }
    story.agree();
    for (n, heads) in versions.iter().enumerate() {
        assert_eq!(story.read_at(bob, note, Some(heads), |view| view.json()), json!({ "n": n }));
    }
    story.kill(bob, 1);
    assert_eq!(story.read_at(bob, note, Some(&versions[1]), |view| view.json()), json!({ "n": 1 }));
}

#[test]
fn a_refused_edit_leaves_nothing_behind() {
    let mut story = Story::new();
    let (alice, _bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    let (space, document) = note;
    let at = story.world.now;
    let process = story.world.replicas[alice.0].process.as_mut().unwrap();
    let now = process.clock.read(at);
    let result: Result<_, DocumentError> = process.engine.edit(now, &space, &document, |edit| {
        {
            edit.set("/b", 2)?;
            edit.set("/list/0/x", 3)
        }
        .map_err(|error: EditError| error.into())
    });
    assert!(result.is_err());
    assert_eq!(story.json(alice, note), json!({ "a": 1 }));
}

#[test]
fn wait_synced_is_answered_only_when_roots_are_equal() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    let answer = story.ask(alice, Command::WaitSynced { space, peer: None });
    assert!(matches!(answer, Ok(Reply::Synced)), "{answer:?}");
    let heads = story.read(alice, note, |view| view.heads());
    assert_eq!(story.world.engine(bob.0).unwrap().heads(&space, &note.1), heads, "it is there when we are told so");
}

// Joining a space while what was left of it was still being removed was refused with "try again in a moment".
#[test]
fn a_space_can_be_joined_again_while_it_is_still_being_removed() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.agree();
    let ticket = story.ticket(alice, space, Role::Writer);
    story.world.command(bob.0, Command::LeaveSpace { space }).unwrap();
    story.join(bob, ticket).unwrap();
    story.agree();
    assert_eq!(story.json(bob, note), json!({ "a": 1 }));
}

#[test]
fn what_only_we_hold_is_known_until_another_member_holds_it() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    let edit = |story: &mut Story, who, value: u64| story.edit(who, note, |edit| Ok(edit.set("/n", value)?));
    edit(&mut story, alice, 1);
    assert_eq!(story.loss_on_leaving(alice, space).only_here, [note.1], "not even signed yet");
    story.agree();
    // Each finds out by itself, a moment later.
    story.wait(10);
    for who in [alice, bob] {
        let loss = story.loss_on_leaving(who, space);
        assert!(loss.was_in_sync && loss.only_here.is_empty(), "{who:?}: {loss:?}");
        assert_eq!(loss.only_admin, who == alice);
    }

    // An edit that stays here, and then one more document.
    story.cut(&[alice], &[bob]);
    edit(&mut story, bob, 2);
    let other = story.document(bob, space);
    story.edit(bob, other, |edit| Ok(edit.set("/n", 3)?));
    story.saved(bob);
    let mut both = [note.1, other.1];
    both.sort_unstable();
    assert_eq!(story.loss_on_leaving(bob, space).only_here, both);
    story.mend();
    story.agree();
    story.wait(10);
    assert!(story.loss_on_leaving(bob, space).is_none());

    // What was known of others is not known any more after a start without them.
    story.cut(&[alice], &[bob]);
    story.kill(bob, 1);
    story.wait(10);
    let loss = story.loss_on_leaving(bob, space);
    assert_eq!((loss.was_in_sync, loss.only_here.as_slice()), (false, &both[..]));
    story.mend();
    story.agree();
    story.wait(10);
    assert!(story.loss_on_leaving(bob, space).is_none());
}

// A document that nobody had edited was listed nowhere, and gone after a restart.
#[test]
fn an_empty_document_is_there_for_all_and_after_a_restart() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.empty_document(alice, space);
    story.saved(alice);
    story.agree();
    assert_eq!(story.json(bob, note), json!({}));
    story.kill(alice, 5);
    assert_eq!(story.world.engine(alice.0).expect("it runs").documents(&space), [note.1]);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.edit(bob, note, |edit| Ok(edit.set("/b", 2)?));
    story.agree();
    assert_eq!(story.json(bob, note), json!({ "a": 1, "b": 2 }));
    story.is_silent();
}

// Whatever id was opened became a document with the first edit, one with a wrong digit too.
#[test]
fn only_making_a_document_makes_one() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let document = DocumentId([7; 16]);
    let open = Command::OpenDocument { space, document };
    assert_eq!(story.ask(alice, open.clone()).unwrap_err(), CommandError::UnknownDocument(document));
    // One that is to begin with its first edit is not there before it.
    let later = Command::CreateDocument { space, document, begins: Begins::WithFirstEdit };
    assert!(matches!(story.ask(alice, later), Ok(Reply::DocumentCreated { commit: None })));
    assert_eq!(story.ask(alice, open.clone()).unwrap_err(), CommandError::UnknownDocument(document));
    assert!(story.world.engine(alice.0).expect("it runs").documents(&space).is_empty());
    // Made twice it is one.
    let make = Command::CreateDocument { space, document, begins: Begins::Empty };
    match story.ask(bob, make.clone()) {
        Ok(Reply::DocumentCreated { commit: Some(commit) }) => story.world.created(bob.0, (space, document), commit),
        other => panic!("{other:?}"),
    }
    assert!(matches!(story.ask(bob, make.clone()), Ok(Reply::DocumentOpen)));
    story.wait(5);
    assert!(matches!(story.ask(alice, open), Ok(Reply::DocumentOpen)));
    assert!(matches!(story.ask(alice, make), Ok(Reply::DocumentOpen)));
}

#[test]
fn nobody_makes_a_document_where_they_may_not_write() {
    let mut story = Story::new();
    let (alice, _, space) = alice_and_bob(&mut story);
    let (reader, newcomer) = (story.someone("Rita"), story.someone("Nina"));
    story.invite(alice, space, reader, Role::Reader);
    let make = Command::CreateDocument { space, document: DocumentId([7; 16]), begins: Begins::Empty };
    let refused = story.ask(reader, make.clone()).unwrap_err();
    assert!(refused.to_string().contains("a reader in the space, a writer is needed"), "{refused}");
    let ticket = story.ticket(alice, space, Role::Writer);
    story.cut(&[newcomer], &[alice, reader]);
    story.begin(newcomer, Command::Join { ticket });
    let refused = story.ask(newcomer, make).unwrap_err();
    assert!(refused.to_string().contains("still being joined"), "{refused}");
}

#[test]
fn lists_say_what_a_document_is_called_without_opening_it() {
    let mut story = Story::new();
    let (alice, bob, space) = alice_and_bob(&mut story);
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/name", "plan")?));
    story.edit(alice, note, |edit| Ok(edit.set("/text", "some words")?));
    story.agree();
    // Nothing is in memory after a start.
    story.kill(bob, 5);
    let listed = story.world.engine(bob.0).expect("it runs").list(&space);
    assert_eq!(listed.len(), 1);
    let (info, there) = (&listed[0], story.world.engine(alice.0).expect("it runs").list(&space));
    assert_eq!(info.summary.name.as_deref(), Some("plan"));
    assert_eq!(info.summary.ops, 5 + 11);
    assert!(info.summary.bytes > 100 && info.summary.changed_s > 0, "{info:?}");
    assert_eq!((&info.summary, &info.heads, &info.problem), (&there[0].summary, &there[0].heads, &None));
    story.edit(alice, note, |edit| Ok(edit.remove("/name")?));
    story.agree();
    assert_eq!(story.world.engine(bob.0).expect("it runs").list(&space)[0].summary.name, None);
}

// A document that left memory and came back was written under a fresh actor each time, until it could hold no more.
#[test]
fn an_actor_lives_as_long_as_its_process_also_when_its_document_leaves_memory() {
    let mut story = Story::with(Options { residents_max: 1, ..Options::calm(1) });
    let (alice, bob, space) = alice_and_bob(&mut story);
    let notes = [(); 4].map(|()| story.document(alice, space));
    let rounds = |story: &mut Story, from: i64| {
        for n in from..from + 3 {
            for note in notes {
                story.edit(alice, note, |edit| Ok(edit.set("/n", n)?));
                story.saved(alice);
                story.world.close_document(alice.0, note);
            }
        }
    };
    rounds(&mut story, 0);
    let counters = story.world.engine(alice.0).expect("it runs").counters();
    assert!(counters.documents_evicted >= 6 && counters.documents_opened >= 6, "{counters:?}");
    let actors = |story: &mut Story, who: Who| {
        notes.map(|note| {
            let history = story.read(who, note, |view| view.history());
            history.into_iter().map(|change| change.actor).collect::<BTreeSet<_>>().len()
        })
    };
    assert_eq!(actors(&mut story, alice), [1; 4]);
    // Another process is another actor, and never one that was there.
    story.kill(alice, 5);
    rounds(&mut story, 3);
    assert_eq!(actors(&mut story, alice), [2; 4]);
    story.agree();
    assert_eq!(actors(&mut story, bob), [2; 4]);
}

// Whoever holds a ticket could keep sessions open for ever without joining.
#[test]
fn ticket_holder_who_does_not_join_is_let_go_after_a_minute_and_joins_when_it_can() {
    let mut story = Story::new();
    let (alice, bob, carol) = (story.someone("Alice"), story.someone("Bob"), story.someone("Carol"));
    let space = story.space(alice, "notes");
    story.invite(alice, space, bob, Role::Writer);
    story.agree();
    story.cut(&[alice], &[bob, carol]);
    // Bob does not know of the invitation.
    let ticket = story.ticket_with(alice, space, Role::Writer, &[bob]);
    let join = story.begin(carol, Command::Join { ticket });
    story.wait(50);
    let sessions = story.world.stats.sessions;
    assert!(story.world.connected(carol.0, bob.0));
    story.wait(30);
    assert!(story.world.stats.sessions > sessions, "the session has ended, and Carol dials again");
    story.mend();
    assert!(matches!(story.answer(carol, join), Ok(Reply::SpaceReady(joined)) if joined == space));
}

#[test]
fn feed_ends_where_the_disk_has_it_so_that_no_position_is_lost_with_the_power() {
    let mut story = Story::new();
    let alice = story.someone("Alice");
    let space = story.space(alice, "notes");
    let note = story.document(alice, space);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 1)?));
    story.saved(alice);
    let end = |story: &mut Story| story.world.engine(alice.0).unwrap().feed_end();
    let before = end(&mut story);
    story.edit(alice, note, |edit| Ok(edit.set("/a", 2)?));
    assert_eq!(end(&mut story), before, "nothing is on disk yet");
    story.power_cut(alice, 1);
    story.wait(5);

    // What comes now may have the number that was lost: whoever had seen that would miss it.
    story.edit(alice, note, |edit| Ok(edit.set("/a", 3)?));
    story.saved(alice);
    let Ok(Reply::Feed(rows)) = story.ask(alice, Command::ReadFeed { after: before, limit: 10 }) else {
        panic!("the feed cannot be read")
    };
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [end(&mut story)]);
}
