//! Documents as an application and the engine see them: edits, reading, runs, merging.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use anabranch_engine::document::import::{Import, Rules};
use anabranch_engine::document::{EditError, Followed, Json, Maker, Origin, Patch, Settle};
use common::{Peer, guard, settle};
use serde_json::json;

#[test]
fn an_edit_is_read_back() {
    let mut alice = Peer::new(1);
    alice
        .edit(|edit| {
            edit.set("/title", "hello")?;
            edit.set("/items", json!([1, 2.5, null, true, {"a": "b"}]))?;
            edit.set_counter("/count", 3)?;
            edit.increment("/count", -1)?;
            edit.set_bytes("/blob", &[1, 2, 3])?;
            edit.set_timestamp("/when", 1_700_000_000_000)?;
            edit.set_plain_string("/kind", "plain")?;
            edit.splice_text("/title", 5, 0, ", wörld")?;
            edit.insert("/items/0", "first")?;
            edit.insert("/items/-", 9)?;
            edit.remove("/items/3")
        })
        .unwrap();
    let view = alice.document.view();
    assert_eq!(
        view.json(),
        json!({
            "blob": "AQID", "count": 2, "items": ["first", 1, 2.5, true, {"a": "b"}, 9], "kind": "plain",
            "title": "hello, wörld", "when": 1_700_000_000_000_i64,
        })
    );
    assert_eq!(view.text("/title").as_deref(), Some("hello, wörld"));
    assert_eq!((view.length("/title"), view.length("/items"), view.length("")), (Some(12), Some(6), Some(6)));
    assert_eq!(view.get("/items/4/a"), Some(json!("b")));
    assert_eq!(view.keys("/items/4"), Some(vec!["a".to_string()]));
    assert_eq!((view.get("/nothing"), view.get("/items/6"), view.get("/title/0")), (None, None, None));
}

#[test]
fn a_failed_edit_leaves_the_document_as_it_was() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("", json!({"a": [1, 2], "t": "text"}))).unwrap();
    let (heads, json) = (alice.document.heads(), alice.document.view().json());
    let refused = alice.edit(|edit| {
        edit.set("/b", 1)?;
        edit.remove("/a/0")?;
        edit.splice_text("/t", 1, 2, "xyz")?;
        edit.set("/no/parent", 1)
    });
    assert_eq!(refused.unwrap_err().to_string(), "there is nothing at `/no`");
    assert_eq!((alice.document.heads(), alice.document.view().json()), (heads, json));
    alice.edit(|edit| edit.set("/b", 1)).unwrap();
    assert_eq!(alice.document.view().json(), json!({"a": [1, 2], "b": 1, "t": "text"}));
    let mut bob = Peer::new(2);
    let settled = bob.receive(alice.take_runs());
    assert_eq!(settled.accepted.len(), 1);
    assert_eq!(bob.document.view().json(), alice.document.view().json());
}

#[test]
fn an_edit_that_panics_is_rolled_back() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("", json!({"a": {"b": 1}}))).unwrap();
    let heads = alice.document.heads();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        alice.edit::<()>(|edit| {
            edit.set("/a", json!({"text": "new"}))?;
            edit.splice_text("/a/text", 0, 0, "x")?;
            panic!("the application's own")
        })
    }));
    assert!(panicked.is_err() && alice.document.heads() == heads);
    assert_eq!(alice.document.view().json(), json!({"a": {"b": 1}}));
    assert!(alice.edit(|edit| edit.splice_text("/a/text", 0, 0, "x")).is_err());
    alice.edit(|edit| edit.set("/a/b", 2)).unwrap();
    assert_eq!(alice.document.view().json(), json!({"a": {"b": 2}}));
}

#[test]
fn an_edit_that_does_nothing_makes_no_change() {
    let mut alice = Peer::new(1);
    let author = alice.author();
    let nothing = alice.document.edit(author, |_| Ok::<_, EditError>(7)).unwrap();
    assert_eq!(nothing, (7, false));
    assert!(alice.document.take_unsigned().is_none() && alice.document.heads().is_empty());
}

#[test]
fn wrong_paths_say_what_is_wrong() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("", json!({"list": [1], "text": "abc", "n": 1}))).unwrap();
    let mut error = |f: fn(&mut anabranch_engine::document::Edit<'_>) -> Result<(), EditError>| {
        alice.edit(f).unwrap_err().to_string()
    };
    assert_eq!(error(|e| e.set("/n/x", 1)), "`/n` is a number, a map, a list or a text is needed");
    assert_eq!(error(|e| e.set("/list/x", 1)), "`/list/x`: a list is indexed by a number");
    assert_eq!(error(|e| e.set("/list/2", 1)), "`/list` has length 1, position 2 is behind its end");
    assert_eq!(error(|e| e.remove("/list/1")), "there is nothing at `/list/1`");
    assert_eq!(error(|e| e.set("", json!([1]))), "`` is a list, a JSON object is needed");
    assert_eq!(error(|e| e.splice_text("/list", 0, 0, "x")), "`/list` is a list, a text is needed");
    assert_eq!(error(|e| e.splice_text("/text", 2, 2, "x")), "`/text` has length 3, position 4 is behind its end");
    assert_eq!(error(|e| e.increment("/n", 1)), "`/n` is a number, a counter is needed");
    assert_eq!(error(|e| e.set("/text/0", 1)), "`/text` is a text, a map or a list is needed");
    assert_eq!(error(|e| e.insert("/list/5", 1)), "`/list` has length 1, position 5 is behind its end");
}

#[test]
fn what_peers_would_refuse_is_refused_here_with_value_and_limit() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("/t", "x")).unwrap();
    let heads = alice.document.heads();
    let mut error = |f: &dyn Fn(&mut anabranch_engine::document::Edit<'_>) -> Result<(), EditError>| {
        alice.edit(|edit| f(edit)).unwrap_err().to_string()
    };
    assert_eq!(error(&|e| e.set_bytes("/b", &vec![0; 300_000])), "bytes at `/b` is 300000 bytes, limit 262144");
    assert_eq!(error(&|e| e.set("/b", json!({"k".repeat(2000): 1}))), "a key at `/b` is 2000 bytes, limit 1024");
    assert_eq!(
        error(&|e| e.set("/b", "x".repeat(300_000))),
        "this edit makes 300001 operations in one change, limit 200000: split it into several edits"
    );
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(
        error(&|e| e.set("/b", deep.clone())),
        format!("the nesting at `/b{}` is 65 levels, limit 64", "/0".repeat(64))
    );
    assert_eq!(
        error(&|e| e.set_counter("/c", 1 << 60)),
        "a counter's first value at `/c` is 1152921504606846976 units, limit 9007199254740992"
    );
    assert_eq!(
        error(&|e| e.set_counter("/c", 1).and_then(|()| e.increment("/c", -(1 << 49)))),
        "an addition to a counter at `/c` is 562949953421312 units, limit 281474976710656"
    );
    assert_eq!(
        error(&|e| e.set("/c", f64::INFINITY)),
        "the number at `/c` is infinite: only finite numbers can be written"
    );
    // Within every limit that can be counted, and too large as it is encoded.
    let floats: Vec<Json> = (0..150_000).map(|i| json!(f64::from(i) + 0.123)).collect();
    let refused = error(&|e| e.set("/b", floats.clone()));
    assert!(refused.contains("limit 1048576: split it into several edits"), "{refused}");
    assert_eq!(alice.document.heads(), heads);
    alice.edit(|edit| edit.set("/t", "y")).unwrap();
    let mut bob = Peer::new(2);
    assert_eq!(bob.receive(alice.take_runs()).accepted.len(), 1);
    assert_eq!(bob.document.view().json(), json!({"t": "y"}));
}

#[test]
fn a_change_of_the_largest_size_passes_the_gate() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("/text", "añ ".repeat(66_000))).unwrap();
    alice.edit(|edit| edit.splice_text("/text", 10, 20_000, "")).unwrap();
    let mut bob = Peer::new(2);
    let settled = bob.receive(alice.take_runs());
    assert!(settled.refused.is_empty(), "{:?}", settled.refused);
    assert_eq!(bob.document.view().json(), alice.document.view().json());
}

#[test]
fn counters_add_up_and_values_set_at_once_are_all_kept() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice
        .edit(|edit| {
            edit.set_counter("/count", 0)?;
            edit.set("/name", "start")
        })
        .unwrap();
    bob.receive(alice.take_runs());
    alice.edit(|edit| edit.increment("/count", 2).and_then(|()| edit.set("/name", "alice"))).unwrap();
    bob.edit(|edit| edit.increment("/count", 3).and_then(|()| edit.set("/name", "bob"))).unwrap();
    let (from_alice, from_bob) = (alice.take_runs(), bob.take_runs());
    alice.receive(from_bob);
    bob.receive(from_alice);
    assert_eq!(alice.document.heads(), bob.document.heads());
    assert_eq!(alice.document.view().json(), bob.document.view().json());
    assert_eq!(alice.document.view().get("/count"), Some(json!(5)));
    let conflicts = alice.document.view().conflicts("/name");
    assert_eq!(conflicts, bob.document.view().conflicts("/name"));
    let mut values: Vec<_> = conflicts.iter().map(|conflict| (conflict.value.clone(), conflict.device)).collect();
    assert_eq!(Some(values[0].0.clone()), alice.document.view().get("/name"));
    values.sort_by_key(|(value, _)| value.to_string());
    assert_eq!(values, [(json!("alice"), Some(alice.device())), (json!("bob"), Some(bob.device()))]);
    assert_eq!(alice.document.view().all_conflicts().len(), 1);
    assert_eq!(alice.document.view().all_conflicts()[0].0.to_string(), "/name");
    assert!(alice.document.view().conflicts("/count").is_empty());
}

#[test]
fn the_past_can_be_read_and_compared() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("", json!({"t": "one", "l": [1, 2, 3], "gone": 1}))).unwrap();
    let before = alice.document.heads();
    let then = alice.document.view().json();
    alice
        .edit(|edit| {
            edit.splice_text("/t", 0, 1, "Ö")?;
            edit.remove("/l/1")?;
            edit.insert("/l/0", json!({"deep": ["x"]}))?;
            edit.remove("/gone")?;
            edit.set_counter("/c", 1)
        })
        .unwrap();
    let now = alice.document.heads();
    let past = alice.document.view_at(&before).unwrap();
    assert_eq!((past.json(), past.heads()), (then.clone(), before.clone()));
    assert_eq!(past.text("/t").as_deref(), Some("one"));
    assert_eq!((past.history().len(), alice.document.view().history().len()), (1, 2));
    let apply = |json: &Json, patches: Vec<Patch>| {
        let mut json = json.clone();
        for patch in patches {
            patch.apply(&mut json).unwrap_or_else(|error| panic!("{error}: {patch:?} to {json}"));
        }
        json
    };
    assert_eq!(apply(&then, alice.document.view().diff(&before).unwrap()), alice.document.view().json());
    assert_eq!(apply(&alice.document.view().json(), past.diff(&now).unwrap()), then);
    let unknown = anabranch_engine::id::ChangeHash([9; 32]);
    assert_eq!(
        alice.document.view_at(&[unknown]).unwrap_err().to_string(),
        format!("change {unknown} is not in this document")
    );
    let history = alice.document.view().history();
    assert_eq!(history[0].device, Some(alice.device()));
    assert_eq!((history[1].seq, &history[1].deps), (2, &before));
}

#[test]
fn local_edits_go_on_while_a_merge_runs_and_after_it() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    bob.edit(|edit| edit.set("/text", "x".repeat(60_000))).unwrap();
    alice.edit(|edit| edit.set("/mine", 1)).unwrap();
    let first = alice.take_runs();
    for run in bob.take_runs() {
        alice.document.receive(run);
    }
    let guard = guard();
    let Settle::Work(work) = alice.document.settle(&guard) else { panic!("it should have been heavy") };
    assert!(alice.document.is_busy());
    alice.edit(|edit| edit.set("/mine", 2)).unwrap();
    let second = alice.take_runs();
    alice.edit(|edit| edit.set("/mine", 3)).unwrap();
    let merged = work.run(&guard);
    alice.edit(|edit| edit.set("/also", 4)).unwrap();
    let settled = alice.document.finish_merge(merged, &guard);
    assert_eq!((settled.accepted.len(), alice.document.is_busy()), (1, false));
    alice.edit(|edit| edit.splice_text("/text", 0, 0, "y")).unwrap();
    let third = alice.take_runs();
    assert_eq!(third.iter().map(|run| (run.header.first_seq, run.header.last_seq)).collect::<Vec<_>>(), [(3, 5)]);
    assert!([&first, &second, &third].iter().all(|runs| runs[0].header.actor == first[0].header.actor));
    bob.receive(first.into_iter().chain(second).chain(third));
    assert_eq!(bob.document.view().json(), alice.document.view().json());
    assert_eq!(bob.document.heads(), alice.document.heads());
    assert_eq!(alice.document.signed_heads(), alice.document.heads());
}

#[test]
fn unsigned_changes_are_in_no_signed_head() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    alice.edit(|edit| edit.set("/a", 1)).unwrap();
    assert!(alice.document.signed_heads().is_empty());
    let runs = alice.take_runs();
    assert_eq!(alice.document.signed_heads(), alice.document.heads());
    bob.receive(runs);
    bob.edit(|edit| edit.set("/b", 1)).unwrap();
    alice.edit(|edit| edit.set("/a", 2)).unwrap();
    let from_bob = bob.take_runs();
    let tip = from_bob[0].header.tip;
    alice.receive(from_bob);
    assert_eq!(alice.document.signed_heads(), [tip]);
    assert_eq!(alice.document.heads().len(), 2);
    assert!(alice.document.unsigned_bytes() > 0);
    alice.take_runs();
    assert_eq!(alice.document.unsigned_bytes(), 0);
    assert_eq!(alice.document.signed_heads(), alice.document.heads());
}

#[test]
fn a_document_opens_from_its_runs_in_any_order_and_writes_on_under_a_fresh_actor() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    let mut stored = Vec::new();
    for round in 0..5 {
        alice.edit(|edit| edit.set("/alice", round)).unwrap();
        let runs = alice.take_runs();
        bob.receive(runs.clone());
        bob.edit(|edit| edit.set("/bob", round)).unwrap();
        let answer = bob.take_runs();
        alice.receive(answer.clone());
        stored.extend(runs);
        stored.extend(answer);
    }
    stored.reverse();
    let work = anabranch_engine::document::OpenWork {
        space: common::SPACE,
        id: common::DOCUMENT,
        runs: stored.clone(),
        tips: Vec::new(),
        suspects: Vec::new(),
        poisoned: Vec::new(),
    };
    let opened = work.run(&guard()).unwrap();
    assert_eq!(opened.view().json(), alice.document.view().json());
    assert_eq!((opened.heads(), opened.signed_heads()), (alice.document.heads(), alice.document.heads()));
    let old = stored[0].header.actor;
    alice.document = opened;
    alice.edit(|edit| edit.set("/alice", "again")).unwrap();
    let runs = alice.take_runs();
    assert!(runs[0].header.first_seq == 1 && runs[0].header.actor != old);
    bob.receive(runs);
    assert_eq!(bob.document.view().json(), alice.document.view().json());

    let mut holed = stored;
    holed.remove(3);
    let work = anabranch_engine::document::OpenWork {
        space: common::SPACE,
        id: common::DOCUMENT,
        runs: holed,
        tips: Vec::new(),
        suspects: Vec::new(),
        poisoned: Vec::new(),
    };
    let error = work.run(&guard()).unwrap_err();
    assert!(error.contains("which is not stored"), "{error}");
}

#[test]
fn a_recorded_local_change_replays_as_it_was_made() {
    let (mut alice, mut replay) = (Peer::new(1), Peer::new(1));
    for value in 0..3 {
        alice.edit(|edit| edit.set("/v", value)).unwrap();
        let bytes = alice.document.last_local_change().unwrap();
        let device = alice.device();
        replay.document.apply_local(device, &bytes, Maker::Edit, &guard()).unwrap();
    }
    assert_eq!(replay.document.heads(), alice.document.heads());
    assert_eq!(replay.take_runs(), alice.take_runs());
    alice.edit(|edit| edit.set("/v", 9)).unwrap();
    replay.edit(|edit| edit.set("/v", 8)).unwrap();
    let bytes = alice.document.last_local_change().unwrap();
    let device = alice.device();
    assert!(
        replay.document.apply_local(device, &bytes, Maker::Edit, &guard()).unwrap_err().to_string().starts_with("fork")
    );
}

#[test]
fn a_copy_of_this_process_makes_us_write_under_another_actor() {
    let (mut alice, mut copy) = (Peer::new(1), Peer::new(1));
    alice.edit(|edit| edit.set("/v", 1)).unwrap();
    let bytes = alice.document.last_local_change().unwrap();
    let device = alice.device();
    copy.document.apply_local(device, &bytes, Maker::Edit, &guard()).unwrap();
    copy.take_runs();
    copy.edit(|edit| edit.set("/copy", 2)).unwrap();
    let runs = alice.take_runs();
    let settled = alice.receive(copy.take_runs());
    assert_eq!(settled.accepted.len(), 1);
    alice.edit(|edit| edit.set("/v", 3)).unwrap();
    let later = alice.take_runs();
    assert!(later[0].header.actor != runs[0].header.actor && later[0].header.first_seq == 1);
}

#[test]
fn large_json_is_imported_in_pieces() {
    let mut alice = Peer::new(1);
    let big = json!({
        "book": "chapter ".repeat(20_000),
        "rows": (0..6_000).map(|i| json!({"id": i, "name": format!("row {i}")})).collect::<Vec<_>>(),
        "nested": {"list": [[1, 2], ["x".repeat(70_000)], {"y": "z".repeat(60_000)}]},
        "small": true,
    });
    alice.edit(|edit| edit.set("/old", 1)).unwrap();
    let mut import = Import::new(&alice.document.view(), "", big.clone().into(), Rules::default()).unwrap();
    let mut changes = 0;
    while !import.is_done() {
        alice.edit(|edit| import.write(edit)).unwrap();
        changes += 1;
    }
    assert!(changes > 5, "{changes}");
    let mut expected = big;
    let sort = |json: &mut Json| {
        let Json::Object(members) = json else { return };
        members.sort_keys();
    };
    sort(&mut expected);
    assert_eq!(alice.document.view().json(), expected);
    let mut bob = Peer::new(2);
    for run in alice.take_runs() {
        bob.document.receive(run);
    }
    assert!(settle(&mut bob.document).refused.is_empty());
    assert_eq!(bob.document.heads(), alice.document.heads());
}

/// Takes what is new and says who made it; `None` if two versions had to be compared.
fn follow(peer: &mut Peer, seen: &mut (Vec<anabranch_engine::id::ChangeHash>, Json)) -> Option<Vec<Origin>> {
    let steps = match peer.document.follow(&seen.0).unwrap() {
        Followed::Compare(snapshot) => {
            let view = snapshot.view();
            view.diff(&seen.0).unwrap().iter().for_each(|patch| patch.apply(&mut seen.1).unwrap());
            seen.0 = view.heads();
            return None;
        }
        Followed::Steps(steps) => steps,
    };
    for step in &steps {
        step.patches.iter().for_each(|patch| patch.apply(&mut seen.1).unwrap());
        seen.0.clone_from(&step.heads);
    }
    Some(steps.iter().map(|step| step.origin).collect())
}

#[test]
fn follower_gets_the_patches_of_each_edit_and_merge() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    let mut seen = (Vec::new(), json!({}));
    alice
        .edit(|edit| edit.set("", json!({"text": "one two", "list": [{"a": 1}, {"b": 2}], "gone": [1, 2, 3]})))
        .unwrap();
    alice.edit(|edit| edit.set_counter("/count", 1)).unwrap();
    bob.receive(alice.take_runs());
    // What was there before anybody followed is compared.
    assert_eq!(follow(&mut alice, &mut seen), None);
    assert_eq!(follow(&mut alice, &mut seen), Some(vec![]));
    alice.edit(|edit| edit.splice_text("/text", 3, 1, " and ")).unwrap();
    alice
        .edit(|edit| {
            edit.insert("/list/0", json!({"new": ["x", "y"]}))?;
            edit.set("/list/2/b", json!({"deep": "text"}))?;
            edit.splice_text("/list/2/b/deep", 4, 0, "ure")?;
            edit.remove("/gone/1")?;
            edit.increment("/count", 4)
        })
        .unwrap();
    assert_eq!(follow(&mut alice, &mut seen), Some(vec![Origin::Local, Origin::Local]));
    assert_eq!(seen.1, alice.document.view().json());
    bob.edit(|edit| {
        edit.splice_text("/text", 7, 0, "!")?;
        edit.set("/list/1/b", "conflict")?;
        edit.remove("/gone")?;
        edit.increment("/count", 10)
    })
    .unwrap();
    alice.receive(bob.take_runs());
    assert_eq!(follow(&mut alice, &mut seen), Some(vec![Origin::Remote]));
    assert_eq!(seen.1, alice.document.view().json());
    // A version from which no patches are known is compared with the present one.
    let mut late = (Vec::new(), json!({}));
    assert_eq!(follow(&mut alice, &mut late), None);
    assert_eq!(late, seen);
}

#[test]
fn follower_keeps_the_winner_of_values_that_come_together() {
    // In 1773 a removal and a value come together that lose against what is here.
    for seed in 1_700..1_900u64 {
        let mut random = seed;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let mut peers = [Peer::new(1), Peer::new(2), Peer::new(3)];
        peers[0].edit(|edit| edit.set("", json!({"j": 0, "k": 0}))).unwrap();
        let base = peers[0].take_runs();
        peers[1..].iter_mut().for_each(|peer| assert!(peer.receive(base.clone()).refused.is_empty()));
        let mut seen = (Vec::new(), json!({}));
        follow(&mut peers[0], &mut seen);
        let mut runs = Vec::new();
        for n in 0..8 {
            let (writer, key) = (below(3) as usize, if below(2) == 0 { "/j" } else { "/k" });
            let removes = below(5) == 0 && peers[writer].document.view().exists(key);
            peers[writer].edit(|edit| if removes { edit.remove(key) } else { edit.set(key, n) }).unwrap();
            let signed = peers[writer].take_runs();
            if below(4) == 0 {
                // Alice gets them at last, the other one may have seen them when it writes.
                peers[1 + below(2) as usize].receive(signed.clone());
            }
            if writer != 0 {
                runs.extend(signed);
            }
        }
        follow(&mut peers[0], &mut seen);
        peers[0].receive(runs);
        follow(&mut peers[0], &mut seen);
        assert_eq!(seen.1, peers[0].document.view().json(), "seed {seed}");
    }
}

#[test]
fn snapshot_stays_as_it_was_taken() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("/n", 1)).unwrap();
    let snapshot = alice.document.snapshot(None).unwrap();
    let earlier = alice.document.heads();
    alice.edit(|edit| edit.set("/n", 2)).unwrap();
    assert_eq!((snapshot.view().get("/n"), alice.document.view().get("/n")), (Some(json!(1)), Some(json!(2))));
    let before = alice.document.snapshot(Some(&earlier)).unwrap();
    assert_eq!((before.view().get("/n"), before.view().heads()), (Some(json!(1)), earlier));
}

#[test]
fn edit_of_a_document_that_is_read_takes_a_copy_made_before() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("/text", "x".repeat(10_000))).unwrap();
    assert!(alice.document.shared().is_none());
    let snapshot = alice.document.snapshot(None).unwrap();
    let copy = alice.document.shared().expect("it is shared and large").copy();
    alice.document.own(copy);
    assert!(alice.document.shared().is_none());
    // A copy of what the document is no more is not taken.
    let again = alice.document.snapshot(None).unwrap();
    let late = alice.document.shared().unwrap().copy();
    alice.edit(|edit| edit.set("/n", 1)).unwrap();
    alice.document.own(late);
    assert_eq!(alice.document.view().get("/n"), Some(json!(1)));
    assert_eq!((snapshot.view().get("/n"), again.view().get("/n")), (None, None));
}

#[test]
fn kinds_are_told_apart_without_reading_what_is_there() {
    let mut alice = Peer::new(1);
    alice
        .edit(|edit| {
            assert!(!edit.exists("/list"));
            edit.set("", json!({"list": [1], "text": "t", "null": null, "yes": true}))?;
            edit.set_counter("/count", 3)?;
            edit.set_plain_string("/plain", "p")?;
            assert_eq!((edit.exists("/list/0"), edit.kind("/list")), (true, Some("a list")));
            Ok(())
        })
        .unwrap();
    let view = alice.document.view();
    let kinds: Vec<_> = ["", "/list", "/list/0", "/text", "/null", "/yes", "/count", "/plain", "/list/1", "/no"]
        .map(|path| view.kind(path))
        .into();
    let some = ["a map", "a list", "a number", "a text", "null", "a boolean", "a counter", "a plain string"];
    assert_eq!(kinds, some.map(Some).into_iter().chain([None, None]).collect::<Vec<_>>());
    assert!(view.exists("/null") && !view.exists("/text/0"));
}

#[test]
fn a_document_that_was_made_empty_is_one_change_that_peers_take() {
    let (mut alice, mut bob) = (Peer::new(1), Peer::new(2));
    for peer in [&mut alice, &mut bob] {
        assert!(peer.document.is_empty());
        let author = peer.author();
        assert_eq!(peer.document.begin(author), Ok(true));
        let author = peer.author();
        assert_eq!(peer.document.begin(author), Ok(false), "it is there");
        assert!(!peer.document.is_empty());
    }
    // Both make it at once, and both go on.
    let (made_by_alice, made_by_bob) = (alice.take_runs(), bob.take_runs());
    assert_eq!((made_by_alice.len(), made_by_bob.len()), (1, 1));
    assert_eq!(alice.receive(made_by_bob).accepted.len(), 1);
    assert_eq!(bob.receive(made_by_alice).accepted.len(), 1);
    assert_eq!(alice.document.heads().len(), 2);
    alice.edit(|edit| edit.set("/a", 1)).unwrap();
    bob.edit(|edit| edit.set("/b", 2)).unwrap();
    let (of_alice, of_bob) = (alice.take_runs(), bob.take_runs());
    assert_eq!(alice.receive(of_bob).accepted.len(), 1);
    assert_eq!(bob.receive(of_alice).accepted.len(), 1);
    assert_eq!(alice.document.view().json(), json!({ "a": 1, "b": 2 }));
    assert_eq!(alice.document.heads(), bob.document.heads());
    let history = alice.document.view().history();
    assert_eq!(history.iter().map(|change| change.ops).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert!(history.iter().all(|change| change.device.is_some()));
}

#[test]
fn the_end_of_a_list_has_a_name_and_a_key_may_be_called_so_too() {
    let mut alice = Peer::new(1);
    alice.edit(|edit| edit.set("", json!({"list": [1], "map": {"-": 1}}))).unwrap();
    alice
        .edit(|edit| {
            edit.set("/list/-", 2)?;
            edit.set("/map/-", 2)?;
            edit.set("/-", 3)
        })
        .unwrap();
    assert_eq!(alice.document.view().json(), json!({"list": [1, 2], "map": {"-": 2}, "-": 3}));
}
