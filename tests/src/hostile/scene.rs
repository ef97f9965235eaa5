//! What an attack has in its hands: what the stage has told to the attacker, and how long it may go on.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anabranch_engine::id::{DeviceId, DocumentId};
use anabranch_engine::space::ticket::Ticket;
use tokio::runtime::{Builder, Runtime};

use crate::hostile::client::Client;
use crate::processes::patience::Stopwatch;
use crate::sim::dice::Dice;

/// What of a stage an attacker may use. Which of it depends on who attacks.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Where the attacked node listens: a multiaddr of loopback with its peer id.
    pub address: String,
    /// The port of that.
    pub port: u16,
    /// The attacked node's directory, for who is on the same host.
    pub directory: PathBuf,
    /// The attacked node's process.
    pub pid: u32,
    /// A ticket for one reader.
    pub reader: Ticket,
    /// A ticket for one writer.
    pub writer: Ticket,
    /// A ticket that the other node has used up.
    pub used_up: Ticket,
    /// The honest writer's document.
    pub document: DocumentId,
    /// The document's id as people see it.
    pub document_text: String,
    /// The other node's device, a member.
    pub member: DeviceId,
    /// The other node's address.
    pub member_address: String,
}

/// The time and the means of one attack.
pub struct Scene {
    /// What is told to the attacker.
    pub ground: Ground,
    /// What it draws by.
    pub dice: Dice,
    runtime: Rc<Runtime>,
    clock: Stopwatch,
    length: Duration,
}

impl Scene {
    /// A scene that lasts so long from now on.
    ///
    /// # Errors
    /// There is no runtime for it.
    pub fn new(ground: Ground, length: Duration, seed: u64) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let (clock, dice) = (Stopwatch::start(), Dice::salted(seed));
        Ok(Self { ground, dice, runtime: Rc::new(runtime), clock, length })
    }

    /// There is time left.
    pub fn lasts(&self) -> bool {
        self.clock.elapsed() < self.length
    }

    /// The time that is left.
    pub fn left(&self) -> Duration {
        self.length.saturating_sub(self.clock.elapsed())
    }

    /// A made-up device that will use this ticket.
    ///
    /// # Errors
    /// Its network does not start.
    pub fn device(&mut self, ticket: &Ticket) -> Result<Client, String> {
        let dice = Dice::salted(self.dice.any());
        Client::new(&self.runtime, self.dice.bytes(), ticket, &self.ground.address, dice)
    }

    /// A device that holds no ticket, only one for a space that nobody has.
    ///
    /// # Errors
    /// Its network does not start.
    pub fn stranger(&mut self) -> Result<Client, String> {
        let mut ticket = self.ground.reader.clone();
        ticket.connection_key = self.dice.bytes();
        self.device(&ticket)
    }

    /// A device with a session that holds a ticket and has not joined; it has the membership log.
    ///
    /// # Errors
    /// It is not let that far.
    pub fn guest(&mut self) -> Result<Client, String> {
        let ticket = self.ground.reader.clone();
        let mut client = self.device(&ticket)?;
        client.connect(Some(Vec::new()))?;
        client.fetch_log()?;
        Ok(client)
    }

    /// A member with a session, by the ticket for a reader.
    ///
    /// # Errors
    /// It is not let in.
    pub fn reader(&mut self) -> Result<Client, String> {
        let ticket = self.ground.reader.clone();
        self.member(&ticket)
    }

    /// A member with a session, by the ticket for a writer.
    ///
    /// # Errors
    /// It is not let in.
    pub fn writer(&mut self) -> Result<Client, String> {
        let ticket = self.ground.writer.clone();
        self.member(&ticket)
    }

    fn member(&mut self, ticket: &Ticket) -> Result<Client, String> {
        let mut client = self.device(ticket)?;
        client.connect(Some(Vec::new()))?;
        client.join()?;
        Ok(client)
    }
}
