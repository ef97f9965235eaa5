//! `follow`: what following a document costs, by its size: for each edit made here, for each that arrives, and for the writer.
//! The floor is the same replica without a follower.

use std::time::Duration;

use anabranch::{Edit, EditError, Patch, Peer};
use anabranch_engine::document::{Author, Document as Bare, Followed};
use anabranch_engine::id::{AclHash, ActorId, ChangeHash, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::run::Run;
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use futures::executor::block_on;

use super::arrive::Unguarded;
use super::{Figures, Report, Size, clock, rounded};

/// Characters put into a text by one change.
const PIECE: usize = 50_000;

/// What is followed.
#[derive(Clone, Copy)]
enum Content {
    /// A text of this many characters.
    Text(usize),
    /// A map of this many keys.
    Keys(usize),
}

impl Content {
    fn name(self) -> String {
        match self {
            Self::Text(size) if size >= 1_000_000 => format!("{}m", size / 1_000_000),
            Self::Text(size) => format!("{}k", size / 1_000),
            Self::Keys(size) => format!("{}k_keys", size / 1_000),
        }
    }

    fn fill(self, mut edit: impl FnMut(&dyn Fn(&mut Edit<'_>) -> Result<(), EditError>) -> Result<()>) -> Result<()> {
        match self {
            Self::Text(size) => {
                edit(&|edit| edit.set("/text", ""))?;
                (0..size).step_by(PIECE).try_for_each(|at| {
                    let piece: String = "lorem ipsum ".chars().cycle().take(PIECE.min(size - at)).collect();
                    edit(&|edit| edit.splice_text("/text", at, 0, &piece))
                })
            }
            Self::Keys(size) => edit(&|edit| (0..size).try_for_each(|n| edit.set(format!("/k{n}").as_str(), n))),
        }
    }

    fn change(self, edit: &mut Edit<'_>, n: usize) -> Result<(), EditError> {
        match self {
            // All over the text.
            Self::Text(size) => edit.splice_text("/text", n * 7_919 % size, 0, "x"),
            Self::Keys(size) => edit.set(format!("/k{}", n * 7_919 % size).as_str(), n + size),
        }
    }
}

/// Runs it.
///
/// # Errors
/// Something does not work.
pub fn run(size: Size) -> Result<Report> {
    let contents: &[Content] = if size.quick {
        &[Content::Text(1_000), Content::Keys(1_000)]
    } else {
        &[
            Content::Text(1_000),
            Content::Text(10_000),
            Content::Text(100_000),
            Content::Text(1_000_000),
            Content::Keys(10_000),
        ]
    };
    let edits = if size.quick { 20 } else { 500 };
    let (mut ours, mut floor) = (Figures::new(), Figures::new());
    for &content in contents {
        let name = content.name();
        let mut add = |figure: &str, (with, without): (Duration, Duration), count: usize| {
            let us = |time: Duration| rounded(time.as_secs_f64() * 1e6 / count as f64, 2);
            ours.insert(format!("{figure}_us_{name}"), us(with));
            floor.insert(format!("{figure}_us_{name}"), us(without));
        };
        add("edit", local(content, edits)?, edits);
        // A merge copies the document.
        let merges = if size.quick { 5 } else { 50 };
        add("merge", incoming(content, merges)?, merges);
        add("writer", writer(content, edits)?, edits);
    }
    Ok(Report { workload: "follow", documents: 1, ours, floor })
}

fn author(n: u8) -> Author {
    Author { device: SecretKey::from_seed(&[n; 32]).device(), fresh_actor: ActorId([n; 16]), wall_s: 1_000 }
}

fn filled(content: Content) -> Result<Bare> {
    let mut document = Bare::empty(SpaceId([1; 32]), DocumentId([2; 16]));
    content.fill(|change| {
        document.edit(author(1), |edit| change(edit))?;
        Ok(())
    })?;
    Ok(document)
}

/// Takes all steps since what was seen.
fn look(document: &mut Bare, seen: &mut Vec<ChangeHash>) -> Result<usize> {
    match document.follow(seen)? {
        Followed::Steps(steps) => {
            if let Some(last) = steps.last() {
                seen.clone_from(&last.heads);
            }
            Ok(steps.iter().map(|step| step.patches.len()).sum())
        }
        Followed::Compare(_) => anyhow::bail!("two versions were compared"),
    }
}

/// Edits made here, with somebody who follows each, and without.
fn local(content: Content, edits: usize) -> Result<(Duration, Duration)> {
    let mut document = filled(content)?;
    let mut made = |follow: bool, from: usize| {
        let mut seen = document.heads();
        if follow {
            look(&mut document, &mut seen)?;
        }
        let begun = clock::now();
        let mut patches = 0;
        for n in from..from + edits {
            document.edit(author(1), |edit| content.change(edit, n))?;
            if follow {
                patches += look(&mut document, &mut seen)?;
            }
        }
        ensure!(!follow || patches >= edits, "{patches} patches of {edits} edits");
        Ok(begun.elapsed())
    };
    let without = made(false, 0)?;
    Ok((made(true, edits)?, without))
}

/// Edits that arrive one by one.
fn incoming(content: Content, edits: usize) -> Result<(Duration, Duration)> {
    let key = SecretKey::from_seed(&[1; 32]);
    let (space, id, acl) = (SpaceId([1; 32]), DocumentId([2; 16]), AclHash([0; 32]));
    let mut theirs = filled(content)?;
    let signed = |document: &mut Bare| {
        let unsigned = std::iter::from_fn(|| document.take_unsigned());
        unsigned.map(|unsigned| Run::sign(&key, space, id, acl, unsigned)).collect::<Vec<_>>()
    };
    let before = signed(&mut theirs);
    let mut runs = Vec::new();
    for n in 0..edits {
        theirs.edit(author(1), |edit| content.change(edit, n))?;
        runs.extend(signed(&mut theirs));
    }
    let arrive = |follow: bool| {
        let mut ours = Bare::empty(space, id);
        let merge = |document: &mut Bare, runs: Vec<Run>| {
            runs.into_iter().for_each(|run| document.receive(run));
            if let Some(work) = document.begin_merge() {
                document.finish_merge(work.run(&Unguarded), &Unguarded);
            }
        };
        merge(&mut ours, before.clone());
        let mut seen = ours.heads();
        if follow {
            look(&mut ours, &mut seen)?;
        }
        let begun = clock::now();
        let mut patches = 0;
        for run in runs.clone() {
            merge(&mut ours, vec![run]);
            if follow {
                patches += look(&mut ours, &mut seen)?;
            }
        }
        let time = begun.elapsed();
        ensure!(ours.heads() == theirs.heads(), "something was refused");
        ensure!(!follow || patches >= edits, "{patches} patches of {edits} edits");
        Ok(time)
    };
    let without = arrive(false)?;
    Ok((arrive(true)?, without))
}

/// A replica's writer, with a subscriber on another thread, and without.
fn writer(content: Content, edits: usize) -> Result<(Duration, Duration)> {
    let peer = block_on(Peer::builder().open())?;
    let document = block_on(async { peer.create_space("bench").await?.create_document().await })?;
    content.fill(|change| Ok(document.edit(|edit| change(edit))?))?;
    let write = |from: usize| -> Result<Duration> {
        let begun = clock::now();
        (from..from + edits).try_for_each(|n| document.edit(|edit| content.change(edit, n)))?;
        Ok(begun.elapsed())
    };
    let without = write(0)?;
    let mut changes = document.subscribe(document.heads()?)?;
    let followed = std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<()> {
            let is_end = |patch: &Patch| patch.path.to_string() == "/end";
            while !block_on(changes.next()).context("the replica has stopped")?.patches.iter().any(is_end) {}
            Ok(())
        });
        let time = write(edits);
        document.edit(|edit| edit.set("/end", true))?;
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        time
    })?;
    block_on(peer.shutdown());
    Ok((followed, without))
}
