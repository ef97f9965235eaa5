//! A whole engine on rows that nobody wrote: it says what is wrong with them, or starts and works.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_engine::id::{DocumentId, SpaceId};
use anabranch_engine::keys::SecretKey;
use anabranch_engine::limits::DOCUMENTS_RESIDENT_MAX;
use anabranch_engine::storage::{Image, Reply, Request, Scanned, Table};
use anabranch_engine::time::{Now, Timestamp};
use anabranch_engine::{Command, CommandId, Config, DocumentError, Engine, Input as News, Output as Wish};

use super::guard::FuzzGuard;
use super::input::{Input, Output};

/// Documents opened at most.
const OPENED_MAX: usize = 8;

/// A store in memory.
#[derive(Debug, Clone, Default)]
pub struct Rows(pub BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Rows {
    /// What an engine starts with.
    pub fn image(&self) -> Image {
        let rows = self.0.iter().filter(|((table, _), _)| Table::IN_IMAGE.contains(table));
        Image { rows: rows.map(|((table, key), value)| (*table, key.clone(), value.clone())).collect() }
    }

    /// Does what a store does.
    pub fn execute(&mut self, request: Request) -> Reply {
        match request {
            Request::Commit { id, rows } => {
                for row in rows {
                    match row.value {
                        Some(value) => self.0.insert((row.table, row.key), value),
                        None => self.0.remove(&(row.table, row.key)),
                    };
                }
                Reply::Committed { id, result: Ok(()) }
            }
            // It never fails, so nothing waits.
            Request::Resume { id } => Reply::Committed { id, result: Ok(()) },
            Request::Scan { id, table, from, to, bytes_max } | Request::Salvage { id, table, from, to, bytes_max } => {
                let mut scanned = Scanned::default();
                let mut bytes = 0;
                let rest = self.0.range((table, from)..).take_while(|((at, _), _)| *at == table);
                for ((_, key), value) in rest.take_while(|((_, key), _)| to.is_empty() || *key < to) {
                    if bytes >= bytes_max {
                        scanned.more = true;
                        break;
                    }
                    bytes += key.len() + value.len();
                    scanned.rows.push((key.clone(), value.clone()));
                }
                Reply::Scanned { id, result: Ok(scanned) }
            }
        }
    }

    /// The form in which the target reads rows.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Output::default();
        for ((table, key), value) in &self.0 {
            out.byte(*table as u8).chunk(key).chunk(value);
        }
        out.0
    }

    /// What [`Rows::to_bytes`] wrote, or anything.
    pub fn from_bytes(data: &[u8]) -> Self {
        let mut input = Input::new(data);
        let mut rows = BTreeMap::new();
        while !input.is_empty() {
            let table = Table::ALL[usize::from(input.byte()) % Table::ALL.len()];
            rows.insert((table, input.chunk().to_vec()), input.chunk().to_vec());
        }
        Self(rows)
    }
}

/// An engine of the device with this number on these rows. No two that write may have the same seed.
pub fn start(rows: &Rows, device: u8, seed: u8, now: Now) -> Result<Engine, String> {
    let config = Config { guard: Arc::new(FuzzGuard), slot: None, residents_max: DOCUMENTS_RESIDENT_MAX };
    Engine::new(config, identity(device), [seed; 32], now, rows.image())
}

/// The key of the device with this number.
pub fn identity(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

/// Does what the engine wants of its store and its workers, until it wants nothing more; returns what is left to others.
pub fn drain(engine: &mut Engine, rows: &mut Rows, now: Now) -> Vec<Wish> {
    let mut others = Vec::new();
    while let Some(wish) = engine.poll_output() {
        match wish {
            Wish::Store(request) => {
                let reply = rows.execute(request);
                engine.handle(now, News::Stored(reply));
            }
            Wish::Work(work) => {
                let done = work.run(&FuzzGuard);
                engine.handle(now, News::Worked(Box::new(done)));
            }
            other => others.push(other),
        }
    }
    others
}

/// Any rows: an error, or an engine that works until it finds one that is damaged.
pub fn image(data: &[u8]) {
    let mut rows = Rows::from_bytes(data);
    let mut now = Now { mono: Timestamp(1), wall_s: 1 };
    let mut engine = match start(&rows, 1, 1, now) {
        Ok(engine) => engine,
        Err(error) => return assert!(!error.is_empty()),
    };
    drain(&mut engine, &mut rows, now);
    for (space, document) in documents(&mut engine).into_iter().take(OPENED_MAX) {
        engine.handle(now, News::Command(CommandId(1), Command::OpenDocument { space, document }));
        drain(&mut engine, &mut rows, now);
        if let Ok(view) = engine.view(&space, &document, None) {
            assert!(!view.json().is_null());
        }
        let _ = engine.edit(now, &space, &document, |edit| edit.set("/n", 1).map_err(DocumentError::from));
        drain(&mut engine, &mut rows, now);
    }
    for command in
        [Command::CreateSpace { name: "another".into() }, Command::ReadFeed { after: 0, limit: 100 }, Command::Shutdown]
    {
        now.mono.0 += 1_000_000;
        engine.handle(now, News::Timeout);
        drain(&mut engine, &mut rows, now);
        engine.handle(now, News::Command(CommandId(2), command));
        drain(&mut engine, &mut rows, now);
    }
    let _ = (engine.peers(), engine.unanswered(), engine.poll_timeout());
}

/// Every document of every space.
pub fn documents(engine: &mut Engine) -> Vec<(SpaceId, DocumentId)> {
    let spaces: Vec<SpaceId> = engine.spaces().into_iter().map(|status| status.space).collect();
    spaces.into_iter().flat_map(|space| engine.documents(&space).into_iter().map(move |id| (space, id))).collect()
}
