//! Real input: recorded editing of two people, replayed with each on a node of its own, and a long text written offline.

use std::collections::BTreeMap;

use anabranch::{Document, Peer, Ticket};
use anabranch_tests::processes::patience::wait_often;
use anabranch_tests::processes::socket::Socket;
use anabranch_tests::processes::trace::{Act, Step, schedule};
use futures::executor::block_on;

use super::*;

/// As many as the trace needs: so many messages of one author were on their way at once, and one of the other.
const COURIERS: usize = 5;

/// A replica that carries news between two nodes: a reader, which holds and forwards everything. It meets a node when the
/// link to it is let go, and only then.
struct Courier {
    document: Document,
    links: [Link; 2],
    _peer: Peer,
}

impl Courier {
    fn new(trio: &Trio, document: &str) -> Self {
        let links = [trio.founder.port(), trio.writer.port()].map(Link::of_this_process_to);
        let peer = Peer::builder().in_memory().open_blocking().expect("a replica opens in memory");
        let ticket: Ticket = trio.ticket("reader", &links[0]).parse().expect("a node's ticket can be read");
        let space = block_on(peer.join(&ticket)).expect("a courier is let in");
        block_on(peer.dial(&trio.writer.address_through(links[1].port()))).expect("a courier may dial");
        let id = document.parse().expect("a document's id can be read");
        let document = block_on(space.open(id)).expect("a document can be opened");
        Self { document, links, _peer: peer }
    }

    fn heads(&self) -> Vec<String> {
        let heads = self.document.heads().expect("a courier reads");
        heads.iter().map(ToString::to_string).collect()
    }
}

/// The version that stands for the first so many steps of each author, as heads.
struct Versions {
    beginning: Vec<String>,
    /// For each author, the heads after each step.
    after: [Vec<Vec<String>>; 2],
    authors: [Vec<Step>; 2],
}

impl Versions {
    fn heads(&self, steps: [usize; 2]) -> Vec<String> {
        // An author's last step may stand on the other's, which then is no head.
        let covered = |author: usize| {
            let other = 1 - author;
            steps[author] == 0 || (steps[other] > 0 && self.authors[other][steps[other] - 1].seen >= steps[author])
        };
        let mut heads: Vec<String> = [0, 1]
            .into_iter()
            .filter(|&author| !covered(author))
            .flat_map(|author| self.after[author][steps[author] - 1].iter().cloned())
            .collect();
        if heads.is_empty() {
            heads.clone_from(&self.beginning);
        }
        heads.sort();
        heads
    }
}

#[test]
fn two_people_writing_one_text_at_once_end_with_what_they_had() {
    let recorded: Concurrent = trace::load("friendsforever.json.gz");
    let authors = recorded.two_authors();
    let acts = schedule(&authors, COURIERS).expect("the couriers are enough");

    let trio = Trio::start();
    let document = new_document(&trio.founder, "friends", &json!({ "text": "" }));
    let couriers: Vec<Courier> = (0..COURIERS).map(|_| Courier::new(&trio, &document)).collect();
    let beginning = trio.agree(&document);
    for courier in &couriers {
        wait_until("a courier has the document", || match courier.heads() == beginning {
            true => Ok(()),
            false => Err(format!("{:?}", courier.heads())),
        });
    }
    // From here on the two authors learn of each other what a courier brings, and nothing else.
    trio.to_writer.cut();
    couriers.iter().flat_map(|courier| &courier.links).for_each(Link::hold);

    let clock = Stopwatch::start();
    let mut sockets = [trio.founder.socket(), trio.writer.socket()];
    let mut versions = Versions { beginning, after: Default::default(), authors };
    let mut knows = [[0; 2]; 2];
    let mut carried = [[0; 2]; COURIERS];
    for act in &acts {
        match *act {
            Act::Step { author } => {
                let own = knows[author][author];
                let patches = &versions.authors[author][own].patches;
                let edits = patches.iter().map(|patch| patch.edit("/text")).collect();
                let heads = sockets[author].edit(&document, Value::Array(edits));
                assert_eq!(heads.len(), 1, "a step stands on all that its author knows");
                versions.after[author].push(heads);
                knows[author][author] += 1;
            }
            Act::Meet { courier, author } => {
                let both = [0, 1].map(|of| knows[author][of].max(carried[courier][of]));
                (knows[author], carried[courier]) = (both, both);
                meet(&couriers[courier], author, &mut sockets[author], &document, &versions.heads(both));
            }
        }
    }
    let steps = acts.iter().filter(|act| matches!(act, Act::Step { .. })).count();
    println!("{steps} transactions, {} meetings, {:?}", acts.len() - steps, clock.elapsed());

    // Now everyone meets everyone.
    trio.to_writer.open();
    couriers.iter().flat_map(|courier| &courier.links).for_each(Link::open);
    assert_eq!(trio.agree(&document), versions.heads([versions.authors[0].len(), versions.authors[1].len()]));
    for node in trio.nodes() {
        let text = node.run(&["doc", "get", "friends", "/text", "--raw"]).ok();
        assert_eq!(text.text(), recorded.end_content.trim_end(), "{}", node.directory().display());
        node.run(&["wait-synced", "--timeout", "60"]).ok();
    }
    println!("replayed and equal on all after {:?}", clock.elapsed());
}

/// Lets the link go until both sides hold exactly `heads`.
fn meet(courier: &Courier, author: usize, socket: &mut Socket, document: &str, heads: &[String]) {
    courier.links[author].open();
    wait_often("a courier and an author agree", Duration::from_micros(200), || {
        let carried = courier.heads();
        if carried != heads {
            return Err(format!("the courier has {carried:?}, expected {heads:?}"));
        }
        let (known, _) = socket.get(document, "/name")?;
        if known == heads { Ok(()) } else { Err(format!("author {author} has {known:?}, expected {heads:?}")) }
    });
    courier.links[author].hold();
}

#[test]
fn a_paper_written_offline_and_edits_made_meanwhile_are_both_kept() {
    let recorded: Sequential = trace::load("automerge-paper.json.gz");
    let trio = Trio::start();
    let document = new_document(&trio.founder, "paper", &json!({ "text": "", "title": "untitled", "reviews": [] }));
    trio.agree(&document);

    trio.to_writer.cut();
    let clock = Stopwatch::start();
    let mut lines = String::new();
    for patch in recorded.txns.iter().flat_map(|txn| &txn.patches) {
        lines.push_str(&patch.edit("/text").to_string());
        lines.push('\n');
    }
    std::thread::scope(|scope| {
        let import =
            scope.spawn(|| trio.writer.run_with(&["--json", "doc", "edit", "paper", "--batch", "1000"], &lines));
        // Meanwhile, on the other side of the cut.
        let meanwhile = [
            r#"{"op":"set","path":"/title","value":"A Conflict-Free Replicated JSON Datatype"}"#,
            r#"{"op":"splice","path":"/text","pos":0,"ins":"[[seen by the founder]]"}"#,
            r#"{"op":"insert","path":"/reviews/-","value":{"by":"founder","stars":5}}"#,
        ];
        trio.founder.run_with(&["doc", "edit", "paper", "--each"], &meanwhile.join("\n")).ok();
        trio.writer.run(&["doc", "set", "paper", "/title", "\"A paper\""]).ok();
        let imported = import.join().expect("the import does not panic").ok().json();
        assert_eq!(imported["edits"], 259_778);
        assert_eq!(imported["changes"], 260);
    });
    println!("imported offline in {:?}", clock.elapsed());
    let apart = trio.founder.run(&["doc", "get", "paper", "/text", "--raw"]).ok();
    assert_eq!(apart.text(), "[[seen by the founder]]");

    let clock = Stopwatch::start();
    trio.to_writer.open();
    let heads = trio.agree(&document);
    println!("the same on all three {:?} after the heal", clock.elapsed());
    let mut seen = BTreeMap::new();
    for node in trio.nodes() {
        let content = node.run(&["doc", "export", "paper"]).ok().json();
        let text = content["text"].as_str().expect("the text is a text");
        assert!(text.contains("[[seen by the founder]]"));
        assert_eq!(text.replace("[[seen by the founder]]", ""), recorded.end_content);
        assert_eq!(content["reviews"], json!([{ "by": "founder", "stars": 5 }]));
        let conflicts = node.run(&["--json", "doc", "conflicts", "paper"]).ok().json_lines();
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert_eq!(conflicts[0]["path"], "/title");
        let titles: Vec<&Value> = conflicts[0]["values"].as_array().unwrap().iter().map(|it| &it["value"]).collect();
        assert!(titles.contains(&&json!("A paper")) && titles.len() == 2, "{titles:?}");
        assert_eq!(titles[0], &content["title"], "the value shown is the winner");
        seen.insert(content.to_string(), heads.clone());
    }
    assert_eq!(seen.len(), 1, "the same content everywhere");
}
