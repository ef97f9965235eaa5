//! A whole engine and a member of its space who sends anything: the engine does not panic, says no more than it should, never
//! stops, keeps its other space as it was, and starts again from what it stored.

use std::collections::VecDeque;
use std::sync::OnceLock;

use anabranch_engine::document::Value;
use anabranch_engine::gate::payload_tip;
use anabranch_engine::id::{ChangeHash, DeviceId, DocumentId, EntryHash, SpaceId};
use anabranch_engine::keys::{Domain, SecretKey};
use anabranch_engine::limits::{FRAME_BYTES_MAX, HINT_BYTES_MAX};
use anabranch_engine::run::{Run, RunHeader};
use anabranch_engine::space::Acl;
use anabranch_engine::space::roles::Role;
use anabranch_engine::storage::{Table, parse_run_key};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::wire::frame::to_frames;
use anabranch_engine::wire::{Lane, Message, WireRun};
use anabranch_engine::{
    Begins, Command, CommandId, DocumentError, Engine, HintId, Input as News, Output as Wish, Reply, SessionId,
};

use super::engine::{Rows, documents, drain, identity, start};
use super::gate::change;
use super::guard::FuzzGuard;
use super::input::Input;

/// Things that happen in one input at most.
const STEPS_MAX: usize = 64;
/// What an engine may say in one turn: more is a peer's lever.
const SAID_BYTES_MAX: usize = 1024 * 1024;
/// What it may want in one turn.
const WISHES_MAX: usize = 10_000;
const SESSION: SessionId = SessionId(1);
const ALICE: u8 = 1;
const BOB: u8 = 2;
/// Of Alice's engine in every session.
const SEED: u8 = 5;

/// Two replicas as they were left: Alice, who is tested, and Bob, who goes bad.
pub struct Fixture {
    alice: Rows,
    bob: SecretKey,
    /// What Bob's engine sends until Alice's has authenticated it.
    handshake: Vec<Vec<u8>>,
    /// What it goes on to send, in different states.
    pub said: Vec<Vec<Vec<u8>>>,
    /// The gossip topic of the shared space.
    pub topic: String,
    /// Hints that were published there.
    pub hints: Vec<Vec<u8>>,
    shared: SpaceId,
    document: DocumentId,
    /// Changes of that document.
    hashes: Vec<ChangeHash>,
    /// What Bob's runs stand on.
    acl: Acl,
    other_root: [u8; 32],
}

impl Fixture {
    /// What Alice has stored.
    pub fn rows(&self) -> &Rows {
        &self.alice
    }
}

/// An engine with its store and clock.
struct Replica {
    engine: Engine,
    rows: Rows,
    now: Now,
}

impl Replica {
    fn new(rows: Rows, number: u8, seed: u8, now: Now) -> Self {
        let engine = start(&rows, number, seed, now).expect("what an engine stored can be read");
        Self { engine, rows, now }
    }

    fn handle(&mut self, news: News) -> Vec<Wish> {
        self.engine.handle(self.now, news);
        drain(&mut self.engine, &mut self.rows, self.now)
    }

    fn ask(&mut self, command: Command) -> Option<Reply> {
        let wishes = self.handle(News::Command(CommandId(1), command));
        wishes.into_iter().find_map(|wish| match wish {
            Wish::Reply(_, reply) => Some(reply.expect("nothing is wrong with it")),
            _ => None,
        })
    }

    fn set(&mut self, space: SpaceId, document: DocumentId, path: &str, value: impl Into<Value>) -> Vec<Wish> {
        self.ask(Command::CreateDocument { space, document, begins: Begins::WithFirstEdit });
        let edited =
            self.engine.edit(self.now, &space, &document, |edit| edit.set(path, value).map_err(DocumentError::from));
        edited.expect("it is ours to edit");
        drain(&mut self.engine, &mut self.rows, self.now)
    }

    fn opened(&mut self, peer: u8, opener: bool) -> Vec<Wish> {
        let peer = identity(peer).device();
        self.handle(News::SessionOpened { session: SESSION, peer, opener, address: "/memory/1".into() })
    }
}

/// Lets two replicas talk until they have nothing more to say for some seconds. Returns the frames that the second one sent
/// and its hints.
fn talk(alice: &mut Replica, bob: &mut Replica, mut first: Vec<Wish>, seconds: u64) -> (Vec<Vec<u8>>, Vec<Wish>) {
    let mut queue: VecDeque<(bool, Wish)> = first.drain(..).map(|wish| (false, wish)).collect();
    let (mut said, mut published) = (Vec::new(), Vec::new());
    for _ in 0..seconds * 10 {
        while let Some((from_alice, wish)) = queue.pop_front() {
            match wish {
                Wish::Send { bytes, .. } => {
                    let (from, to) = if from_alice { (&mut *alice, &mut *bob) } else { (&mut *bob, &mut *alice) };
                    let written = News::Written { session: SESSION, bytes: bytes.len() };
                    let more = from.handle(written);
                    queue.extend(more.into_iter().map(|wish| (from_alice, wish)));
                    if !from_alice {
                        said.push(bytes.clone());
                    }
                    let more = to.handle(News::Frame { session: SESSION, bytes });
                    queue.extend(more.into_iter().map(|wish| (!from_alice, wish)));
                }
                Wish::Publish { .. } if !from_alice => published.push(wish),
                Wish::Close { reason, .. } => panic!("closed: {reason}"),
                _ => {}
            }
        }
        for (from_alice, replica) in [(true, &mut *alice), (false, &mut *bob)] {
            replica.now.mono.0 += 100_000;
            let more = replica.handle(News::Timeout);
            queue.extend(more.into_iter().map(|wish| (from_alice, wish)));
        }
    }
    (said, published)
}

/// Connects the two, Bob dialing.
fn connect(alice: &mut Replica, bob: &mut Replica) -> (Vec<Vec<u8>>, Vec<Wish>) {
    alice.opened(BOB, false);
    let first = bob.opened(ALICE, true);
    talk(alice, bob, first, 4)
}

/// The same for all inputs: made once.
pub fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(make_fixture)
}

fn make_fixture() -> Fixture {
    let now = Now { mono: Timestamp(1_000_000), wall_s: 1_000 };
    let (mut alice, mut bob) =
        (Replica::new(Rows::default(), ALICE, 1, now), Replica::new(Rows::default(), BOB, 2, now));
    let Some(Reply::SpaceReady(shared)) = alice.ask(Command::CreateSpace { name: "shared".into() }) else {
        panic!("no space")
    };
    let Some(Reply::SpaceReady(other)) = alice.ask(Command::CreateSpace { name: "other".into() }) else {
        panic!("no other space")
    };
    alice.set(other, DocumentId([0x0e; 16]), "/private", "only mine");
    let invite = Command::Invite { space: shared, role: Role::Writer, max_uses: 3, addresses: vec![] };
    let Some(Reply::Ticket(ticket)) = alice.ask(invite) else { panic!("no ticket") };
    bob.ask(Command::Join { ticket });
    let (joining, _) = connect(&mut alice, &mut bob);
    assert_eq!(alice.engine.members(&shared).len(), 2, "Bob is in");

    let document = DocumentId([0xd0; 16]);
    let mut first = bob.set(shared, document, "", serde_json::json!({ "list": [1, "two"], "map": {}, "n": 1 }));
    first.extend(bob.set(shared, document, "/map/a", "b"));
    let (live, mut published) = talk(&mut alice, &mut bob, first, 4);
    alice.set(shared, document, "/alice", true);
    alice.set(shared, DocumentId([0xd1; 16]), "/text", "a second document");
    let (kept_alice, kept_bob) = (alice.rows.clone(), bob.rows.clone());

    // Bob goes on alone and comes back with news, on the same two stores as every session of the target begins with.
    let mut alice = Replica::new(kept_alice.clone(), ALICE, 3, now);
    let mut bob = Replica::new(kept_bob.clone(), BOB, 4, now);
    for i in 0..3 {
        bob.set(shared, DocumentId([0xb0 + i; 16]), "/bob", i);
        bob.set(shared, document, "/n", i);
    }
    let (reconnecting, hints) = connect(&mut alice, &mut bob);
    published.extend(hints);
    assert_eq!(alice.engine.documents(&shared), bob.engine.documents(&shared), "they agree");

    // The handshake that is replayed: frames depend on the nonces, which depend on the engines' seeds.
    let mut alice = Replica::new(kept_alice.clone(), ALICE, SEED, now);
    let mut bob = Replica::new(kept_bob, BOB, 6, now);
    let mut handshake = Vec::new();
    alice.opened(BOB, false);
    let mut to_alice: VecDeque<Wish> = bob.opened(ALICE, true).into();
    let mut admitted = false;
    while let (Some(wish), false) = (to_alice.pop_front(), admitted) {
        let Wish::Send { bytes, .. } = wish else { continue };
        handshake.push(bytes.clone());
        for answer in alice.handle(News::Frame { session: SESSION, bytes }) {
            match answer {
                Wish::Admit { .. } => admitted = true,
                Wish::Send { bytes, .. } => to_alice.extend(bob.handle(News::Frame { session: SESSION, bytes })),
                _ => {}
            }
        }
    }
    assert!(admitted, "the handshake ends");

    let (hashes, acl) = of_bob(&kept_alice, &identity(BOB).device(), shared);
    let other_root = root(&mut alice.engine, other).expect("it is there");
    let topic = published.iter().find_map(|wish| match wish {
        Wish::Publish { topic, .. } => Some(topic.clone()),
        _ => None,
    });
    Fixture {
        alice: kept_alice,
        bob: identity(BOB),
        handshake,
        said: vec![joining, live, reconnecting],
        topic: topic.expect("Bob gave hints"),
        hints: published
            .into_iter()
            .filter_map(|wish| match wish {
                Wish::Publish { bytes, .. } => Some(bytes),
                _ => None,
            })
            .collect(),
        shared,
        document,
        hashes,
        acl,
        other_root,
    }
}

/// Tips of Bob's runs and the `acl_ref` that they stand on, as Alice has them.
fn of_bob(rows: &Rows, bob: &DeviceId, space: SpaceId) -> (Vec<ChangeHash>, Acl) {
    let runs = rows.0.iter().filter(|((table, _), _)| *table == Table::Runs).filter_map(|((_, key), value)| {
        let key = parse_run_key(key)?;
        Run::decode_stored(key.space, key.document, key.actor, key.last_seq, value).ok()
    });
    let headers: Vec<RunHeader> =
        runs.map(|run| run.header).filter(|header| header.device == *bob && header.space == space).collect();
    let acl = headers.first().expect("Bob has written").acl;
    let entries = &rows.0[&(Table::AclRefs, [&space.0[..], &acl.0[..]].concat())];
    let entries: Vec<EntryHash> = minicbor::decode(entries).expect("an engine wrote it");
    (headers.into_iter().map(|header| header.tip).collect(), Acl::new(entries))
}

fn root(engine: &mut Engine, space: SpaceId) -> Option<[u8; 32]> {
    engine.spaces().into_iter().find(|status| status.space == space).map(|status| status.root)
}

/// One session with Bob after the handshake.
pub fn session(data: &[u8]) {
    let fixture = fixture();
    let now = Now { mono: Timestamp(1_000_000), wall_s: 2_000 };
    let mut session = Session {
        fixture,
        alice: Replica::new(fixture.alice.clone(), ALICE, SEED, now),
        unwritten: 0,
        held: None,
        hashes: fixture.hashes.clone(),
    };
    session.handle(News::SessionOpened {
        session: SESSION,
        peer: fixture.bob.device(),
        opener: false,
        address: "/memory/1".into(),
    });
    let mut admitted = false;
    for frame in &fixture.handshake {
        admitted |= session.handle(News::Frame { session: SESSION, bytes: frame.clone() });
    }
    assert!(admitted, "the replayed handshake ends");
    let (space, document) = (fixture.shared, fixture.document);
    session.handle(News::Command(CommandId(1), Command::OpenDocument { space, document }));

    let mut input = Input::new(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        session.step(&mut input);
    }
    session.finish();
}

struct Session {
    fixture: &'static Fixture,
    alice: Replica,
    unwritten: usize,
    /// What the store and the workers have been asked while they take their time.
    held: Option<Vec<Wish>>,
    hashes: Vec<ChangeHash>,
}

impl Session {
    /// One thing that happens.
    fn step(&mut self, input: &mut Input<'_>) {
        let choices = input.byte();
        let rest = choices >> 3;
        match choices & 7 {
            0 => self.hear(input.chunk().to_vec()),
            1 => {
                let message = input.chunk().to_vec();
                to_frames(Lane::ALL[usize::from(rest) % 3], message).into_iter().for_each(|frame| self.hear(frame));
            }
            2 => self.run(rest, input),
            3 => {
                self.alice.now.mono.0 += u64::from(input.short()) * 10_000;
                self.handle(News::Timeout);
            }
            4 => {
                let bytes = core::mem::take(&mut self.unwritten);
                self.handle(News::Written { session: SESSION, bytes });
            }
            5 => {
                let topic = if rest & 1 == 0 { self.fixture.topic.clone() } else { input.text() };
                let (from, bytes) = (self.fixture.bob.device(), input.chunk().to_vec());
                self.handle(News::Hint { hint: HintId(1), from, topic, bytes });
            }
            6 => self.edit(i64::from(rest)),
            _ if self.held.is_none() => self.held = Some(Vec::new()),
            _ => self.release(),
        }
    }

    fn hear(&mut self, frame: Vec<u8>) {
        self.handle(News::Frame { session: SESSION, bytes: frame });
    }

    /// A change that is made of bytes, and signed by Bob as it should be.
    fn run(&mut self, choices: u8, input: &mut Input<'_>) {
        let Fixture { bob, shared, document, acl, .. } = self.fixture;
        let (hash, payload) = change(&self.hashes, input.set(), input.chunk());
        let Ok(tip) = payload_tip(&payload) else { return };
        self.hashes.push(hash);
        let document = if choices & 1 == 0 { *document } else { DocumentId([choices; 16]) };
        let mut header = RunHeader {
            space: *shared,
            document,
            acl: acl.hash,
            device: bob.device(),
            actor: tip.actor,
            first_seq: tip.first_seq,
            last_seq: tip.last_seq,
            tip: tip.tip,
            signature: [0; 64],
        };
        header.signature = bob.sign(Domain::Run, &header.signed_bytes());
        let run = WireRun {
            document,
            actor: header.actor,
            first_seq: header.first_seq,
            acl: acl.hash,
            signature: header.signature.into(),
            payload: payload.into(),
            device: None,
        };
        let message = Message::Runs { space: 0, acls: vec![acl.entries.clone()], runs: vec![run] };
        let lane = if choices & 2 == 0 { Lane::Live } else { Lane::Bulk };
        to_frames(lane, message.to_bytes()).into_iter().for_each(|frame| self.hear(frame));
    }

    /// Alice writes something herself.
    fn edit(&mut self, value: i64) {
        let Fixture { shared, document, .. } = self.fixture;
        let edited = self
            .alice
            .engine
            .edit(self.alice.now, shared, document, |edit| edit.set("/mine", value).map_err(DocumentError::from));
        match edited {
            // An entry of a later version makes the space read-only; a store that takes its time, the document not open.
            Ok(_) | Err(DocumentError::ReadOnly(_) | DocumentError::NotOpen(_)) => {}
            Err(error) => panic!("a peer keeps us from writing: {error}"),
        }
        self.drain();
    }

    /// Tells the engine something; says whether it has admitted its peer.
    fn handle(&mut self, news: News) -> bool {
        self.alice.engine.handle(self.alice.now, news);
        self.drain()
    }

    fn drain(&mut self) -> bool {
        let (mut said, mut wishes) = (0, 0);
        let mut admitted = false;
        while let Some(wish) = self.alice.engine.poll_output() {
            wishes += 1;
            assert!(wishes <= WISHES_MAX, "more than {WISHES_MAX} outputs in one turn");
            match (wish, &mut self.held) {
                (wish @ (Wish::Store(_) | Wish::Work(_)), Some(held)) => held.push(wish),
                (wish @ (Wish::Store(_) | Wish::Work(_)), None) => self.perform(wish),
                (Wish::Send { bytes, .. }, _) => {
                    assert!(bytes.len() <= FRAME_BYTES_MAX);
                    said += bytes.len();
                    self.unwritten += bytes.len();
                }
                (Wish::Publish { bytes, .. }, _) => assert!(bytes.len() <= HINT_BYTES_MAX),
                (Wish::Admit { .. }, _) => admitted = true,
                _ => {}
            }
        }
        assert!(said <= SAID_BYTES_MAX, "{said} bytes said in one turn");
        admitted
    }

    fn perform(&mut self, wish: Wish) {
        let news = match wish {
            Wish::Store(request) => News::Stored(self.alice.rows.execute(request)),
            Wish::Work(work) => News::Worked(Box::new(work.run(&FuzzGuard))),
            _ => return,
        };
        self.alice.engine.handle(self.alice.now, news);
    }

    /// The store and the workers are quick again.
    fn release(&mut self) {
        for wish in self.held.take().unwrap_or_default() {
            self.perform(wish);
            self.drain();
        }
    }

    fn finish(mut self) {
        self.release();
        self.edit(-1);
        let Replica { mut engine, mut rows, now } = self.alice;
        assert_eq!(engine.stopped(), None, "a peer stopped us");
        let other = engine.spaces().into_iter().find(|status| status.space != self.fixture.shared);
        assert_eq!(other.map(|status| status.root), Some(self.fixture.other_root), "another space was touched");
        let mut before: Vec<_> = documents(&mut engine);
        before.truncate(8);
        let heads: Vec<_> = before.iter().map(|(space, document)| engine.heads(space, document)).collect();

        let mut engine = start(&rows, ALICE, 7, now).unwrap_or_else(|error| panic!("it does not start again: {error}"));
        drain(&mut engine, &mut rows, now);
        for ((space, document), heads) in before.into_iter().zip(heads) {
            assert_eq!(engine.heads(&space, &document), heads, "another document after the restart");
            engine.handle(now, News::Command(CommandId(1), Command::OpenDocument { space, document }));
            drain(&mut engine, &mut rows, now);
            assert_eq!(engine.stopped(), None, "what was stored does not open");
        }
    }
}
