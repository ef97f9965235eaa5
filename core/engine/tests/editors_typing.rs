//! Two remote editors and a local one type into one text. Each sees it late, and what it does is meant for what it sees.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_engine::document::{Edit, EditError, Editor, Seats};
use anabranch_engine::id::ChangeHash;
use common::Peer;
use serde_json::json;

/// How many keystrokes, all editors together. `ANABRANCH_KEYSTROKES` sets another number: 100,000 take 15 minutes.
const KEYSTROKES: u32 = 6_000;
/// Characters around a keystroke that are remembered.
const AROUND: usize = 8;
/// An editor's whole text is compared after every so many of its keystrokes.
const COMPARED_EVERY: u32 = 16;
/// The other replica gets what there is after every so many keystrokes.
const SENT_EVERY: u32 = 500;

/// The same numbers each time, from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// What somebody typed, and where it was meant to be. Each character is there once.
struct Inserted {
    character: char,
    before: Vec<char>,
    behind: Vec<char>,
}

/// All that was typed.
#[derive(Default)]
struct Typed {
    inserted: Vec<Inserted>,
    deleted: BTreeSet<char>,
}

/// One keystroke: a position in the text that its editor saw, and what is inserted; else what is there is deleted.
#[derive(Clone, Copy)]
struct Keystroke {
    position: usize,
    insert: Option<char>,
}

impl Keystroke {
    /// A random one, done to the text that is seen.
    fn random(dice: &mut Dice, view: &mut Vec<char>, typed: &mut Typed) -> Self {
        if !view.is_empty() && dice.below(100) < 35 {
            let position = dice.below(view.len());
            typed.deleted.insert(view.remove(position));
            return Self { position, insert: None };
        }
        // People mostly go on where they are.
        let position =
            if dice.below(4) == 0 { dice.below(view.len() + 1) } else { view.len().saturating_sub(dice.below(3)) };
        let character = char::from_u32(0x1_0000 + typed.inserted.len() as u32).unwrap();
        let before = view[position.saturating_sub(AROUND)..position].to_vec();
        let behind = view[position..(position + AROUND).min(view.len())].to_vec();
        typed.inserted.push(Inserted { character, before, behind });
        view.insert(position, character);
        Self { position, insert: Some(character) }
    }

    fn make(self, edit: &mut Edit<'_>) -> Result<(), EditError> {
        match self.insert {
            Some(character) => edit.splice_text("/text", self.position, 0, &character.to_string()),
            None => edit.splice_text("/text", self.position, 1, ""),
        }
    }
}

/// A remote editor: what it sees, with its own keystrokes, and those that are on their way.
struct Remote {
    editor: Editor,
    seen: Vec<ChangeHash>,
    view: Vec<char>,
    under_way: VecDeque<Keystroke>,
    made: u32,
}

impl Remote {
    /// A keystroke arrives.
    fn arrive(&mut self, peer: &mut Peer) {
        let Some(keystroke) = self.under_way.pop_front() else { return };
        let author = peer.author();
        let version = peer.document.version(&self.editor, &self.seen).unwrap();
        let edited = peer.document.edit_at(author, &mut self.editor, version, |edit| keystroke.make(edit));
        let ((_, heads), _) = edited.unwrap();
        self.made += 1;
        if self.made.is_multiple_of(COMPARED_EVERY) && self.under_way.is_empty() {
            let view = peer.document.view_at(&heads).unwrap();
            assert!(view.text("/text").unwrap().chars().eq(self.view.iter().copied()), "it reads what it typed");
        }
    }

    /// It sees the newest version, if all of its own is in that.
    fn look(&mut self, peer: &Peer) {
        if self.under_way.is_empty() {
            self.seen = peer.document.heads();
            self.view = text(peer);
        }
    }
}

fn text(peer: &Peer) -> Vec<char> {
    peer.document.view().text("/text").unwrap().chars().collect()
}

/// Everybody types for a while; then each character is where it was meant, and no other is gone than was deleted.
fn type_together(seed: u64, keystrokes: u32) {
    let (mut dice, mut typed) = (Dice(seed), Typed::default());
    let (mut peer, mut other) = (Peer::new(1), Peer::new(2));
    peer.edit(|edit| edit.set("/text", "")).unwrap();
    let seats = Seats::default();
    let mut remotes: Vec<Remote> = (0..2)
        .map(|_| Remote {
            editor: peer.document.editor(&seats).unwrap(),
            seen: peer.document.heads(),
            view: Vec::new(),
            under_way: VecDeque::new(),
            made: 0,
        })
        .collect();
    for number in 0..keystrokes {
        match dice.below(5) {
            0 => {
                let mut view = text(&peer);
                let keystroke = Keystroke::random(&mut dice, &mut view, &mut typed);
                peer.edit(|edit| keystroke.make(edit)).unwrap();
            }
            who => {
                let remote = &mut remotes[who % 2];
                let keystroke = Keystroke::random(&mut dice, &mut remote.view, &mut typed);
                remote.under_way.push_back(keystroke);
            }
        }
        for remote in &mut remotes {
            // Now and then a few keystrokes wait for one another.
            let arriving = [0, 1, 1, 2, 5][dice.below(5)];
            (0..arriving).for_each(|_| remote.arrive(&mut peer));
            if dice.below(30) == 0 {
                remote.look(&peer);
            }
        }
        if number.is_multiple_of(SENT_EVERY) {
            let settled = other.receive(peer.take_runs());
            assert!(settled.refused.is_empty(), "{settled:?}");
        }
    }
    for remote in &mut remotes {
        (0..keystrokes).for_each(|_| remote.arrive(&mut peer));
    }
    let settled = other.receive(peer.take_runs());
    assert!(settled.refused.is_empty() && settled.waiting == 0, "{settled:?}");
    assert_eq!((other.document.heads(), text(&other)), (peer.document.heads(), text(&peer)));
    assert_as_meant(&typed, &text(&peer));
}

fn assert_as_meant(typed: &Typed, text: &[char]) {
    let places: BTreeMap<char, usize> = text.iter().enumerate().map(|(at, character)| (*character, at)).collect();
    let left = typed.inserted.iter().map(|inserted| inserted.character).filter(|it| !typed.deleted.contains(it));
    assert!(places.keys().copied().eq(left), "what nobody deleted is there, once, and nothing else");
    assert_eq!(places.len(), text.len());
    for Inserted { character, before, behind } in &typed.inserted {
        let Some(at) = places.get(character) else { continue };
        let place = |around: &char| places.get(around).copied();
        let (before, behind) = (before.iter().filter_map(place), behind.iter().filter_map(place));
        assert!(before.chain([*at]).chain(behind).is_sorted(), "{character:?} is not where it was typed");
    }
}

#[test]
fn each_keystroke_lands_where_its_editor_meant() {
    let number = std::env::var("ANABRANCH_KEYSTROKES").ok().and_then(|number| number.parse().ok());
    match number {
        Some(number) => type_together(1, number),
        None => (1..4).for_each(|seed| type_together(seed, KEYSTROKES / 3)),
    }
}

/// Something random, at whatever is seen.
fn something(edit: &mut Edit<'_>, dice: &mut Dice) -> Result<(), EditError> {
    match dice.below(9) {
        0 => edit.set(format!("/k{}", dice.below(3)), dice.below(1_000) as i64),
        1 => edit.set(format!("/k{}", dice.below(3)), json!({"in": [1, "x"], "text": "abc"})),
        2 if edit.exists("/k0") => edit.remove("/k0"),
        3 if edit.exists("/k1/in/0") => edit.insert("/k1/in/0", dice.below(9) as i64),
        4 if edit.exists("/k1/text") => edit.splice_text("/k1/text", 0, 0, "in"),
        5 if edit.exists("/count") => edit.increment("/count", dice.below(9) as i64 - 4),
        6 => {
            let length = edit.length("/list").unwrap_or(0);
            let at = dice.below(length + 1);
            if length > 3 {
                edit.remove(format!("/list/{}", at.min(length - 1)))
            } else {
                edit.insert(format!("/list/{at}"), "v")
            }
        }
        7 if edit.length("/list") > Some(0) => edit.set("/list/0", json!({"n": dice.below(9)})),
        _ => {
            let length = edit.length("/text").unwrap_or(0);
            let at = dice.below(length + 1);
            edit.splice_text("/text", at, dice.below(3).min(length - at), "typed")
        }
    }
}

#[test]
fn whatever_is_edited_at_whatever_version_passes_the_gate_and_reads_the_same_elsewhere() {
    for seed in 1..60 {
        let mut dice = Dice(seed);
        let (mut peer, mut other) = (Peer::new(1), Peer::new(2));
        peer.edit(|edit| {
            edit.set("/text", "some text")?;
            edit.set("/list", json!(["a", "b"]))?;
            edit.set_counter("/count", 1)
        })
        .unwrap();
        let (seats, mut versions) = (Seats::default(), vec![peer.document.heads()]);
        let mut editors: Vec<Editor> = (0..3).map(|_| peer.document.editor(&seats).unwrap()).collect();
        peer.document.follow(&versions[0]).unwrap();
        let first = peer.document.view().json();
        let mut followed = first.clone();
        for _ in 0..60 {
            let before = peer.document.heads();
            let author = peer.author();
            match dice.below(4) {
                3 => _ = peer.document.edit(author, |edit| something(edit, &mut dice)).unwrap(),
                who => {
                    // Old versions and new ones; an editor may go back.
                    let recent = versions.len() - 1 - dice.below(versions.len().min(12));
                    let version = peer.document.version(&editors[who], &versions[recent]).unwrap();
                    let edited =
                        peer.document.edit_at(author, &mut editors[who], version, |edit| something(edit, &mut dice));
                    let ((_, heads), _) = edited.unwrap();
                    versions.push(heads);
                }
            }
            versions.push(peer.document.heads());
            match peer.document.follow(&before).unwrap() {
                anabranch_engine::document::Followed::Steps(steps) => {
                    let mut patches = steps.iter().flat_map(|step| &step.patches);
                    patches.try_for_each(|patch| patch.apply(&mut followed)).unwrap();
                }
                anabranch_engine::document::Followed::Compare(_) => panic!("so small a document has its steps"),
            }
            assert_eq!(followed, peer.document.view().json(), "seed {seed}");
            if dice.below(10) == 0 {
                let settled = other.receive(peer.take_runs());
                assert!(settled.refused.is_empty() && settled.waiting == 0, "seed {seed}: {settled:?}");
                assert_eq!(other.document.view().json(), peer.document.view().json(), "seed {seed}");
            }
        }
        let settled = other.receive(peer.take_runs());
        assert!(settled.refused.is_empty() && settled.waiting == 0, "seed {seed}: {settled:?}");
        assert_eq!(other.document.heads(), peer.document.heads(), "seed {seed}");
        assert_eq!(other.document.view().json(), peer.document.view().json(), "seed {seed}");
        let mut compared = first;
        let patches = peer.document.view().diff(&versions[0]).unwrap();
        patches.iter().try_for_each(|patch| patch.apply(&mut compared)).unwrap();
        assert_eq!(compared, peer.document.view().json(), "seed {seed}");
        // Its conflicts, too.
        for key in ["/k0", "/k1", "/k2"] {
            assert_eq!(other.document.view().conflicts(key), peer.document.view().conflicts(key), "seed {seed}");
        }
    }
}
