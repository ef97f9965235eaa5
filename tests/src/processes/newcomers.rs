//! Nodes killed while they are made and while they join a space: what is left can be started, an admission that was told is
//! kept, and a ticket for one device goes on being good for this device, whoever died in between.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::processes::command::program;
use crate::processes::cycles::{self, Cycles, Settings};
use crate::processes::finding::{Finding, Report};
use crate::processes::fleet::ask;
use crate::processes::link::Link;
use crate::processes::node::Node;
use crate::processes::patience::{LOOK_EVERY, PATIENCE, within};
use crate::processes::socket::{Socket, Trouble};
use crate::sim::dice::Dice;

/// Newcomers to one space, before there is a new founder.
const NEWCOMERS_PER_SPACE: u64 = 20;
/// A newcomer is killed up to so many times before it is left to start.
const FALSE_STARTS_MAX: u64 = 2;
/// A start takes about half of this on an idle machine, its first start somewhat more.
const START_MAX_US: u64 = 60_000;
/// A join takes about half of this on an idle machine.
const JOIN_MAX_US: u64 = 120_000;

#[derive(Debug, Default)]
struct Counts {
    false_starts: u64,
    founder_killed: u64,
    newcomer_killed: u64,
    told: u64,
}

/// Lets newcomers join until there are enough of them, or the time is over, or something is found.
pub fn run(settings: &Settings) -> Report {
    cycles::run(&Newcomers, settings)
}

/// A cycle for each newcomer.
struct Newcomers;

impl Cycles for Newcomers {
    const RUN: &'static str = "newcomers";
    const ONE: &'static str = "newcomer";
    const PER_STAGE: u64 = NEWCOMERS_PER_SPACE;
    type Stage = Host;
    type Counts = Counts;

    fn stage(&self, _: u64) -> Result<Host, Finding> {
        Host::found()
    }

    fn cycle(&self, host: &mut Host, number: u64, dice: &mut Dice, counts: &mut Counts) -> Result<(), Finding> {
        host.welcome(number, dice, counts)
    }

    fn figures(counts: &Counts) -> Vec<(&'static str, u64)> {
        vec![
            ("killed_while_starting", counts.false_starts),
            ("founder_killed", counts.founder_killed),
            ("newcomer_killed", counts.newcomer_killed),
            ("admissions_told", counts.told),
        ]
    }
}

/// The founder of a space with a document in it, and the link through which newcomers come.
struct Host {
    founder: Option<Node>,
    link: Link,
    document: String,
    home: TempDir,
}

impl Host {
    fn found() -> Result<Self, Finding> {
        let home = tempfile::tempdir().map_err(|error| Finding::crash(format!("no temporary folder: {error}")))?;
        let mut host = Self { founder: None, link: Link::to(0), document: String::new(), home };
        host.start_founder()?;
        let mut socket = open(&host.directory("founder"))?;
        ask(&mut socket, "space-create", json!({ "name": "open house" }))?;
        let made = ask(&mut socket, "doc-new", json!({ "space": null, "name": "guests" }))?;
        host.document = made["document"].as_str().unwrap_or_default().to_owned();
        Ok(host)
    }

    fn directory(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn start_founder(&mut self) -> Result<(), Finding> {
        let founder = start(&self.directory("founder"), &["--listen", "/ip4/127.0.0.1/tcp/0", "--announce", "none"])?;
        self.link.retarget(SocketAddr::from((Ipv4Addr::LOCALHOST, founder.port())));
        self.founder = Some(founder);
        Ok(())
    }

    /// A ticket for one device, through the link.
    fn ticket(&self) -> Result<Value, Finding> {
        let founder = self.founder.as_ref().ok_or_else(|| Finding::liveness("the founder does not run"))?;
        let address = founder.address_through(self.link.port());
        let invitation = json!({ "space": null, "role": "writer", "uses": 1, "addresses": [address] });
        Ok(ask(&mut open(&self.directory("founder"))?, "space-invite", invitation)?["ticket"].take())
    }

    /// One newcomer: made, killed, let in, killed or left without its host in the middle of that, and let in again.
    fn welcome(&mut self, number: u64, dice: &mut Dice, counts: &mut Counts) -> Result<(), Finding> {
        let directory = self.directory(&format!("newcomer-{number}"));
        for _ in 0..dice.below(FALSE_STARTS_MAX + 1) {
            let after = Duration::from_micros(dice.below(START_MAX_US));
            Node::launch_and_kill(program(&directory), &directory, &[], after).map_err(Finding::crash)?;
            counts.false_starts += 1;
        }
        let mut newcomer = Some(start(&directory, &[])?);
        let join = json!({ "ticket": self.ticket()?, "timeout_ms": PATIENCE.as_millis() as u64 });

        let (kill_founder, kill_newcomer) = match dice.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let moment = Duration::from_micros(dice.below(JOIN_MAX_US));
        let mut socket = open(&directory)?;
        let told = std::thread::scope(|scope| {
            let joining = scope.spawn(|| socket.request("space-join", join.clone()));
            std::thread::sleep(moment);
            if kill_founder {
                self.founder.take().into_iter().for_each(Node::kill);
                counts.founder_killed += 1;
            }
            if kill_newcomer {
                newcomer.take().into_iter().for_each(Node::kill);
                counts.newcomer_killed += 1;
            }
            // Without its host the newcomer waits for it.
            let started = if kill_founder { self.start_founder() } else { Ok(()) };
            let told = joining.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            started.map(|()| told)
        })?;
        let newcomer = match newcomer {
            Some(newcomer) => newcomer,
            None => start(&directory, &[])?,
        };
        let mut socket = open(&directory)?;
        match told {
            Ok(_) => {
                counts.told += 1;
                let status = ask(&mut socket, "status", json!({}))?;
                if status["spaces"][0]["role"] != "writer" {
                    return Err(Finding::safety(format!("an admission that was told is lost: {}", status["spaces"])));
                }
            }
            Err(Trouble::Refused(why)) => return Err(Finding::liveness(format!("not let in: {why}"))),
            Err(Trouble::Unsent(_) | Trouble::Unanswered(_)) => {}
        }
        // The same ticket, for the same device.
        ask(&mut socket, "space-join", join)?;
        let get = json!({ "document": self.document, "path": "/name" });
        within(PATIENCE, LOOK_EVERY, || socket.ask("doc-get", get.clone()).map(|_| ()))
            .map_err(|state| Finding::liveness(format!("the document does not arrive: {state}")))?;
        newcomer.kill();
        Ok(())
    }
}

fn start(directory: &Path, arguments: &[&str]) -> Result<Node, Finding> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    Node::launch(program(directory), directory, arguments, |_| ())
        .map_err(|error| Finding::safety(format!("{name} does not start: {error}")))
}

fn open(directory: &Path) -> Result<Socket, Finding> {
    Socket::open(directory, 2 * PATIENCE).map_err(|trouble| Finding::crash(trouble.to_string()))
}
