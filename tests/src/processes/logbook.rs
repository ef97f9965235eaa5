//! A document of a fleet whose every write is in a [`Ledger`]: written through sockets, checked on every node.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::processes::finding::Finding;
use crate::processes::fleet::{Fleet, ask};
use crate::processes::ledger::Ledger;
use crate::processes::socket::{Socket, Trouble};

/// Which answer of a node counts as its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The write is on disk: it survives the process.
    Saved,
    /// The write is made, and not promised to survive: a ledger that believes it must find losses.
    Applied,
}

/// The document and its ledger.
pub struct Logbook {
    durability: Durability,
    document: String,
    ledger: Mutex<Ledger>,
}

impl Logbook {
    /// Makes the document; all nodes have it when this returns.
    ///
    /// # Errors
    /// It does not reach them.
    pub fn begin(fleet: &Fleet, durability: Durability) -> Result<Self, Finding> {
        let edits =
            json!([{ "op": "set", "path": "/keys", "value": {} }, { "op": "counter", "path": "/count", "value": 0 }]);
        Ok(Self { durability, document: fleet.new_document(&edits)?, ledger: Mutex::default() })
    }

    /// What is known of its writes.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a node to write a key and to count it, in one change.
    ///
    /// # Errors
    /// The request did not leave, and is in no ledger.
    pub fn send(&self, socket: &mut Socket, node: usize, key: String) -> Result<(), Trouble> {
        let edits = json!([
            { "op": "set", "path": format!("/keys/{key}"), "value": node },
            { "op": "increment", "path": "/count", "by": 1 },
        ]);
        self.ledger().asked(node, key.clone());
        let saved = self.durability == Durability::Saved;
        let sent = socket.send("doc-edit", json!({ "document": self.document, "edits": edits, "saved": saved }));
        sent.inspect_err(|_| self.ledger().withdrawn(&key))
    }

    /// The answer to the oldest write of a socket that has none; false if none comes any more.
    ///
    /// # Errors
    /// The write was refused.
    pub fn hear(&self, socket: &mut Socket, key: Option<&str>) -> Result<bool, Finding> {
        match socket.receive("doc-edit") {
            Ok(answer) if answer["saved"] == (self.durability == Durability::Saved) => {
                key.into_iter().for_each(|key| self.ledger().acknowledged(key));
                Ok(true)
            }
            Ok(answer) => Err(Finding::safety(format!("a write was answered as of another durability: {answer}"))),
            Err(Trouble::Refused(why)) => Err(Finding::liveness(format!("a write was refused: {why}"))),
            Err(Trouble::Unsent(_) | Trouble::Unanswered(_)) => Ok(false),
        }
    }

    /// One write to a node that nobody has hurt.
    ///
    /// # Errors
    /// It is not acknowledged.
    pub fn write(&self, socket: &mut Socket, node: usize, key: String) -> Result<(), Finding> {
        let trouble = |what| Finding::liveness(format!("node {node}, which nobody has hurt: {what}"));
        self.send(socket, node, key.clone()).map_err(|error| trouble(error.to_string()))?;
        if self.hear(socket, Some(&key))? { Ok(()) } else { Err(trouble("no answer".to_owned())) }
    }

    /// Checks that a node has what `by` acknowledged, or what all did, and returns what it has.
    ///
    /// # Errors
    /// It has not, or has more than was asked for.
    pub fn check(&self, fleet: &Fleet, node: usize, by: Option<usize>) -> Result<Value, Finding> {
        let get = json!({ "document": self.document, "path": "" });
        let content = ask(&mut fleet.socket(node)?, "doc-get", get)?["value"].take();
        match &self.ledger().faults(&content, by)[..] {
            [] => Ok(content),
            faults => Err(Finding::safety(format!("on node {node}: {}", faults.join("; ")))),
        }
    }

    /// Checks that all nodes have everything, and the same, and returns it.
    ///
    /// # Errors
    /// They have not.
    pub fn check_all(&self, fleet: &Fleet) -> Result<Value, Finding> {
        let mut first = None;
        for node in 0..fleet.size() {
            let content = self.check(fleet, node, None)?;
            match &first {
                Some(first) if *first != content => {
                    return Err(Finding::safety(format!("equal roots, but node {node} has {content}, node 0 {first}")));
                }
                Some(_) => {}
                None => first = Some(content),
            }
        }
        Ok(first.unwrap_or_default())
    }
}
