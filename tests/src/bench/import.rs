//! `import`: JSON on its way into a document, and the same document on its way into a peer's. A file of plain strings, one of
//! texts, and one text replaced by another. The floor is automerge alone, which makes and applies the same document.

use std::time::Duration;

use anabranch_engine::document::import::{Import, Rules};
use anabranch_engine::document::{Author, Document, Publish, Settle, Strings, Value};
use anabranch_engine::gate::{Authority, Intake, Payload, vouch};
use anabranch_engine::id::{AclHash, ActorId, DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::run::Run;
use anabranch_engine::space::roles::Role;
use anyhow::{Context as _, Result, bail, ensure};
use automerge::transaction::{Transactable, Transaction};
use automerge::{AutoSerde, Automerge, Change, ObjId, ObjType, ROOT, ReadDoc as _, TextEncoding};
use serde_json::{Value as Json, json};

use super::arrive::Unguarded;
use super::{Figures, Report, Size, clock, rounded};

const SPACE: SpaceId = SpaceId([1; 32]);
const DOCUMENT: DocumentId = DocumentId([2; 16]);
/// Bytes of each string.
const STRING_BYTES: usize = 100;
/// Characters of the text that is replaced.
const TEXT_CHARACTERS: usize = 1_000_000;

/// Something to import.
struct Case {
    name: &'static str,
    /// What is there before.
    before: Option<Json>,
    /// The file.
    text: Vec<u8>,
    json: Json,
    strings: Strings,
}

/// Runs it, with so many strings.
///
/// # Errors
/// Something does not work.
pub fn run(strings: usize, size: Size) -> Result<Report> {
    let strings = if size.quick { 200 } else { strings };
    let characters = if size.quick { 2_000 } else { TEXT_CHARACTERS.min(strings * STRING_BYTES) };
    let file = |count: usize| json!({ "items": (0..count).map(|n| words(n, STRING_BYTES)).collect::<Vec<_>>() });
    // As texts there is room for half as many in a document.
    let cases = [
        Case::new("plain", None, file(strings), Strings::Plain)?,
        Case::new("texts", None, file(strings / 2), Strings::Text)?,
        Case::new(
            "replaced",
            Some(json!({ "text": words(1, characters) })),
            json!({ "text": words(2, characters).to_uppercase() }),
            Strings::Text,
        )?,
    ];
    let (mut ours, mut floor) = (Figures::new(), Figures::new());
    for case in &cases {
        for (figures, found) in [(&mut ours, case.ours()?), (&mut floor, case.floor()?)] {
            let mut ms = |figure: &str, time: Duration| {
                figures.insert(format!("{figure}_ms_{}", case.name), rounded(time.as_secs_f64() * 1e3, 2));
            };
            ms("import", found.import.time);
            ms("arrive", found.arrive.time);
            ms("json", found.json);
            let mut peak = |figure: &str, bytes: u64| {
                let per_byte = bytes as f64 / case.text.len() as f64;
                figures.insert(format!("{figure}_peak_{}", case.name), rounded(per_byte, 2));
            };
            peak("import", found.import.peak);
            peak("arrive", found.arrive.peak);
        }
    }
    Ok(Report { workload: "import", documents: 1, ours, floor })
}

/// Words and numbers that lz4 and run-length encoding do not make much smaller.
fn words(seed: usize, bytes: usize) -> String {
    let mut state = seed as u64 + 1;
    let mut text = String::new();
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:x} ", state >> 24));
    }
    text.truncate(bytes);
    text
}

/// How long something took, and the most memory that it had at once.
struct Cost {
    time: Duration,
    peak: u64,
}

/// What one of the two sides took.
struct Found {
    import: Cost,
    arrive: Cost,
    json: Duration,
}

fn cost<T>(f: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
    let mut done = None;
    let memory = allocation_counter::measure(|| {
        let began = clock::now();
        let made = f();
        done = Some((began.elapsed(), made));
    });
    let (time, made) = done.context("nothing was measured")?;
    Ok((Cost { time, peak: memory.bytes_max }, made?))
}

fn author() -> Author {
    Author { device: SecretKey::from_seed(&[1; 32]).device(), fresh_actor: ActorId([1; 16]), wall_s: 1_000 }
}

impl Case {
    fn new(name: &'static str, before: Option<Json>, json: Json, strings: Strings) -> Result<Self> {
        let text = serde_json::to_vec(&json)?;
        Ok(Self { name, before, text, json, strings })
    }

    fn ours(&self) -> Result<Found> {
        let key = SecretKey::from_seed(&[1; 32]);
        let signed = |document: &mut Document| {
            let unsigned = std::iter::from_fn(|| document.take_unsigned());
            unsigned.map(|unsigned| Run::sign(&key, SPACE, DOCUMENT, AclHash([3; 32]), unsigned)).collect::<Vec<_>>()
        };
        let mut document = Document::empty(SPACE, DOCUMENT);
        let mut before = Vec::new();
        if let Some(json) = &self.before {
            import(&mut document, Value::from_json(json.clone(), self.strings))?;
            before = signed(&mut document);
        }
        let (cost_here, runs) = cost(|| {
            import(&mut document, Value::parse(&self.text, self.strings)?)?;
            Ok(signed(&mut document))
        })?;
        let began = clock::now();
        let json = document.view().json().to_string();
        let json_time = began.elapsed();
        ensure!(serde_json::from_str::<Json>(&json)? == self.json, "our document is not the file");
        let mut peer = Document::empty(SPACE, DOCUMENT);
        receive(&mut peer, before)?;
        let (cost_there, ()) = cost(|| receive(&mut peer, runs))?;
        ensure!(peer.heads() == document.heads(), "the peer has another document");
        Ok(Found { import: cost_here, arrive: cost_there, json: json_time })
    }

    fn floor(&self) -> Result<Found> {
        let mut document = empty();
        if let Some(json) = &self.before {
            make(&mut document, json, self.strings)?;
        }
        let before = document.get_heads();
        let mut peer = document.fork();
        let (cost_here, ()) = cost(|| match &self.before {
            None => make(&mut document, &self.json, self.strings),
            Some(_) => replace(&mut document, &self.json),
        })?;
        let began = clock::now();
        let json = serde_json::to_string(&AutoSerde::from(&document))?;
        let json_time = began.elapsed();
        ensure!(serde_json::from_str::<Json>(&json)? == self.json, "automerge's document is not the file");
        let changes: Vec<_> = document.get_changes(&before).iter().map(|change| change.raw_bytes().to_vec()).collect();
        let (cost_there, ()) = cost(|| {
            let changes = changes.into_iter().map(|bytes| Change::try_from(bytes.as_slice()));
            Ok(peer.apply_changes(changes.collect::<Result<Vec<_>, _>>()?)?)
        })?;
        ensure!(peer.get_heads() == document.get_heads(), "automerge's peer has another document");
        Ok(Found { import: cost_here, arrive: cost_there, json: json_time })
    }
}

/// As the node does it.
fn import(document: &mut Document, value: Value) -> Result<()> {
    let mut draft = document.draft(author());
    let mut import = Import::new(&draft.view(), "", value, Rules::default())?;
    draft.reserve(import.tally().bytes + import.tally().bytes / 8);
    while !import.is_done() {
        draft.edit(|edit| import.write(edit))?;
    }
    draft.finish();
    match document.publish(&mut draft, &Unguarded)? {
        Publish::Done => Ok(()),
        other => bail!("the draft is not published: {other:?}"),
    }
}

fn receive(document: &mut Document, runs: Vec<Run>) -> Result<()> {
    let authority = Authority { role: Some(Role::Writer) };
    for run in runs {
        let payload = Payload::read(run.payload)?;
        vouch(&run.header, &payload, authority)?;
        document.receive_read(run.header, Ok(payload), Intake::Always);
    }
    let settled = match document.settle(&Unguarded) {
        Settle::Done(settled) => settled,
        Settle::Work(work) => {
            let merged = work.run(&Unguarded);
            document.finish_merge(merged, &Unguarded)
        }
    };
    ensure!(settled.refused.is_empty() && settled.waiting == 0, "an honest run is refused");
    Ok(())
}

fn empty() -> Automerge {
    Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint)
}

/// The document that JSON makes, in one transaction.
fn make(document: &mut Automerge, json: &Json, strings: Strings) -> Result<()> {
    let mut transaction = document.transaction();
    for (key, member) in json.as_object().context("an object")? {
        match member {
            Json::Array(items) => {
                let list = transaction.put_object(ROOT, key, ObjType::List)?;
                fill(&mut transaction, &list, items, strings)?;
            }
            member => {
                let text = transaction.put_object(ROOT, key, ObjType::Text)?;
                transaction.splice_text(&text, 0, 0, member.as_str().unwrap_or_default())?;
            }
        }
    }
    transaction.commit();
    Ok(())
}

fn fill(transaction: &mut Transaction<'_>, list: &ObjId, items: &[Json], strings: Strings) -> Result<()> {
    let items = items.iter().map(|item| item.as_str().unwrap_or_default());
    match strings {
        Strings::Plain => transaction.splice(list, 0, 0, items.map(automerge::ScalarValue::from))?,
        Strings::Text => {
            for (index, item) in items.enumerate() {
                let text = transaction.insert_object(list, index, ObjType::Text)?;
                transaction.splice_text(&text, 0, 0, item)?;
            }
        }
    }
    Ok(())
}

fn replace(document: &mut Automerge, json: &Json) -> Result<()> {
    let (_, text) = document.get(ROOT, "text")?.context("no text")?;
    let length = isize::try_from(document.length(&text))?;
    let mut transaction = document.transaction();
    transaction.splice_text(&text, 0, length, json["text"].as_str().unwrap_or_default())?;
    transaction.commit();
    Ok(())
}
