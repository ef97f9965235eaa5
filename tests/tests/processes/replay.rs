//! Real input: recorded editing of two people, replayed with each on a node of its own, and a long text written offline.

use std::collections::{BTreeMap, HashMap};

use anabranch_tests::processes::patience::wait_often;
use anabranch_tests::processes::socket::Socket;
use anabranch_tests::processes::trace::{Act, Step, schedule};

use super::*;

/// As many as the trace needs: so many messages of one author were on their way at once, and one of the other.
const COURIERS: usize = 5;
/// How often the two sides of a meeting are looked at.
const LOOK_EVERY: Duration = Duration::from_micros(300);

/// A replica that carries news between two nodes: a reader, which holds and forwards everything. It meets a node when the
/// link to it is let go, and only then.
struct Courier {
    node: Node,
    /// To the founder and to the writer.
    links: [Link; 2],
}

impl Courier {
    fn new(trio: &Trio, number: usize) -> Self {
        let directory = trio.home.path().join(format!("courier-{number}"));
        let links = [trio.founder.port(), trio.writer.port()].map(Link::of_one_process_to);
        let node = Node::start(&directory, &["--dial", &trio.writer.address_through(links[1].port())]);
        links.iter().for_each(|link| link.admit(node.pid()));
        node.run(&["space", "join", &trio.ticket("reader", &links[0])]).ok();
        Self { node, links }
    }
}

/// The version that stands for the first so many steps of each author, as heads.
struct Versions {
    beginning: Vec<String>,
    /// For each author, the heads after each step.
    after: [Vec<Vec<String>>; 2],
    /// Author and step of each head.
    steps: HashMap<String, (usize, usize)>,
    authors: [Vec<Step>; 2],
}

impl Versions {
    /// Which steps two versions are, for people.
    fn differ(&self, known: &[String], expected: &[String]) -> String {
        let names = |heads: &[String]| heads.iter().map(|head| self.steps.get(head).copied()).collect::<Vec<_>>();
        format!("(author, step) {:?} instead of {:?}", names(known), names(expected))
    }

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
    let couriers: Vec<Courier> = (0..COURIERS).map(|number| Courier::new(&trio, number)).collect();
    let beginning = trio.agree(&document);
    for courier in &couriers {
        wait_until("a courier has the document and is linked to both authors", || {
            let peers = courier.node.run(&["--json", "peers"]).ok().json_lines();
            let connected = peers.iter().filter(|peer| peer["connected"] == true).count();
            match (courier.node.heads(&document)? == beginning, connected) {
                (true, 2) => Ok(()),
                state => Err(format!("{state:?}")),
            }
        });
    }
    // From here on the two authors learn of each other what a courier brings, and nothing else.
    trio.to_writer.cut();
    couriers.iter().flat_map(|courier| &courier.links).for_each(Link::hold);

    let clock = Stopwatch::start();
    let mut sockets = [trio.founder.socket(), trio.writer.socket()];
    let mut courier_sockets: Vec<Socket> = couriers.iter().map(|courier| courier.node.socket()).collect();
    let mut versions = Versions { beginning, after: Default::default(), steps: HashMap::new(), authors };
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
                versions.steps.insert(heads[0].clone(), (author, own));
                versions.after[author].push(heads);
                knows[author][author] += 1;
            }
            Act::Meet { courier, author } => {
                let both = [0, 1].map(|of| knows[author][of].max(carried[courier][of]));
                (knows[author], carried[courier]) = (both, both);
                let link = &couriers[courier].links[author];
                link.open();
                for socket in [&mut courier_sockets[courier], &mut sockets[author]] {
                    let heads = versions.heads(both);
                    wait_often("a courier and an author agree", LOOK_EVERY, || {
                        let (known, _) = socket.get(&document, "/name")?;
                        if known == heads { Ok(()) } else { Err(versions.differ(&known, &heads)) }
                    });
                }
                link.hold();
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
