//! Stories: a calm world in which a test says what happens, step by step, and virtual time does the rest.

use std::collections::BTreeSet;

use anabranch_engine::document::{Edit, Editor, View};
use anabranch_engine::id::{ChangeHash, SpaceId};
use anabranch_engine::space::roles::Role;
use anabranch_engine::space::ticket::Ticket;
use anabranch_engine::{Begins, Command, CommandError, CommandId, DocumentError, LossOnLeaving, Reply};

use super::checkers::{acknowledged, convergence, silence};
use super::dice::Dice;
use super::ledger::Place;
use super::plan::Crash;
use super::trace::Trace;
use super::workload::{Did, LOOK_EVERY, Waiting, new_place};
use super::{CONVERGE_WITHIN, FOUND_WITHIN, Options, SECONDS, SILENCE, World};

/// A world and who is in it. Everything that goes wrong in it ends the test.
pub struct Story {
    /// The world.
    pub world: World,
    names: Vec<&'static str>,
}

/// Someone in a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who(pub usize);

impl Story {
    /// A calm world.
    pub fn new() -> Self {
        Self::with(Options::calm(1))
    }

    /// A world with the given options.
    pub fn with(options: Options) -> Self {
        super::campaign::listen();
        Self { world: World::new(options, Trace::new(true, false)), names: Vec::new() }
    }

    /// Someone who can be dialed appears.
    pub fn someone(&mut self, name: &'static str) -> Who {
        let replica = self.world.add_replica();
        self.world.replicas[replica].listens = true;
        self.names.push(name);
        self.world.start(replica);
        self.go_on();
        Who(replica)
    }

    /// Someone who cannot be dialed appears.
    pub fn someone_unreachable(&mut self, name: &'static str) -> Who {
        let replica = self.world.add_replica();
        self.world.replicas[replica].listens = false;
        self.names.push(name);
        self.world.start(replica);
        self.go_on();
        Who(replica)
    }

    /// Gives a command and waits for its answer, at most a virtual minute.
    pub fn ask(&mut self, who: Who, command: Command) -> Result<Reply, CommandError> {
        let id = self.begin(who, command);
        self.answer(who, id)
    }

    /// Gives a command.
    pub fn begin(&mut self, who: Who, command: Command) -> CommandId {
        self.world.command_for(who.0, command, Waiting::ForStory).expect("it runs")
    }

    /// Waits for the answer to a command, at most a virtual minute.
    pub fn answer(&mut self, who: Who, id: CommandId) -> Result<Reply, CommandError> {
        let answered =
            self.world.run_while_not(LOOK_EVERY, 60 * SECONDS, |world| world.answers.contains_key(&(who.0, id)));
        self.check();
        assert!(answered, "{} has no answer to {id:?}", self.names[who.0]);
        self.world.answers.remove(&(who.0, id)).expect("just seen")
    }

    /// Founds a space.
    pub fn space(&mut self, founder: Who, name: &str) -> SpaceId {
        match self.ask(founder, Command::CreateSpace { name: name.to_owned() }) {
            Ok(Reply::SpaceReady(space)) => {
                self.world.ledger.joined(founder.0, space, Role::Admin);
                space
            }
            other => panic!("founding a space: {other:?}"),
        }
    }

    /// Makes a ticket for one.
    pub fn ticket(&mut self, inviter: Who, space: SpaceId, role: Role) -> Ticket {
        self.ticket_with(inviter, space, role, &[inviter])
    }

    /// Makes a ticket for one that names where some members are.
    pub fn ticket_with(&mut self, inviter: Who, space: SpaceId, role: Role, at: &[Who]) -> Ticket {
        let addresses = at.iter().map(|who| self.world.address_of(who.0)).collect();
        match self.ask(inviter, Command::Invite { space, role, max_uses: 1, addresses }) {
            Ok(Reply::Ticket(ticket)) => ticket,
            other => panic!("inviting: {other:?}"),
        }
    }

    /// Joins with a ticket.
    ///
    /// # Errors
    /// A member refused.
    pub fn join(&mut self, joiner: Who, ticket: Ticket) -> Result<(), CommandError> {
        let (space, role) = (ticket.space, ticket.role);
        match self.ask(joiner, Command::Join { ticket })? {
            Reply::SpaceReady(joined) => {
                assert_eq!(joined, space);
                self.world.ledger.joined(joiner.0, space, role);
                Ok(())
            }
            other => panic!("joining: {other:?}"),
        }
    }

    /// Invites and lets join.
    pub fn invite(&mut self, inviter: Who, space: SpaceId, joiner: Who, role: Role) {
        let ticket = self.ticket(inviter, space, role);
        self.join(joiner, ticket).expect("the ticket is fresh");
    }

    /// A new document, open.
    pub fn document(&mut self, who: Who, space: SpaceId) -> Place {
        let place = new_place(&mut self.world, who.0, space).expect("it runs");
        self.create(who, place, Begins::WithFirstEdit);
        place
    }

    /// A new empty document, open.
    pub fn empty_document(&mut self, who: Who, space: SpaceId) -> Place {
        let place = new_place(&mut self.world, who.0, space).expect("it runs");
        self.create(who, place, Begins::Empty);
        place
    }

    fn create(&mut self, who: Who, place: Place, begins: Begins) {
        let (space, document) = place;
        match self.ask(who, Command::CreateDocument { space, document, begins }) {
            Ok(Reply::DocumentCreated { commit }) => {
                if let Some(commit) = commit {
                    self.world.created(who.0, place, commit);
                }
            }
            other => panic!("making a document: {other:?}"),
        }
        let process = self.world.replicas[who.0].process.as_mut().expect("it runs");
        *process.open.entry(place).or_default() += 1;
        self.check();
    }

    /// Opens a document.
    pub fn open(&mut self, who: Who, place: Place) {
        if self.world.has_open(who.0, &place) {
            return;
        }
        let (space, document) = place;
        let answer = self.ask(who, Command::OpenDocument { space, document });
        assert!(matches!(answer, Ok(Reply::DocumentOpen)), "opening: {answer:?}");
        let process = self.world.replicas[who.0].process.as_mut().expect("it runs");
        *process.open.entry(place).or_default() += 1;
        acknowledged::in_document(&mut self.world, who.0, place);
        self.check();
    }

    /// Edits a document that the writer may edit.
    pub fn edit(&mut self, who: Who, place: Place, f: impl FnOnce(&mut Edit<'_>) -> Result<(), DocumentError>) {
        self.try_edit(who, place, f).unwrap_or_else(|error| panic!("{} cannot edit: {error}", self.names[who.0]));
    }

    /// Tries to edit a document.
    ///
    /// # Errors
    /// The edit was refused.
    pub fn try_edit(
        &mut self,
        who: Who,
        place: Place,
        f: impl FnOnce(&mut Edit<'_>) -> Result<(), DocumentError>,
    ) -> Result<(), DocumentError> {
        self.open(who, place);
        let result = self.world.edit_with(who.0, place, |edit| f(edit).map(|()| Did::default()));
        self.check();
        result
    }

    /// A tab or a remote client of someone's.
    pub fn editor(&mut self, who: Who, place: Place) -> Editor {
        self.open(who, place);
        let engine = self.world.engine(who.0).expect("it runs");
        engine.editor(&place.0, &place.1).expect("it is open")
    }

    /// It edits at what it has seen. Returns what it sees then.
    pub fn edit_at(
        &mut self,
        who: Who,
        editor: &mut Editor,
        seen: &[ChangeHash],
        f: impl FnOnce(&mut Edit<'_>) -> Result<(), DocumentError>,
    ) -> Vec<ChangeHash> {
        let edited = self.world.edit_at(who.0, editor, seen, f);
        self.check();
        edited.unwrap_or_else(|error| panic!("a tab of {}'s cannot edit: {error}", self.names[who.0]))
    }

    /// Waits until everything that someone edited is saved.
    pub fn saved(&mut self, who: Who) {
        let saved = self.world.run_while_not(LOOK_EVERY, 60 * SECONDS, |world| world.ledger.pending_of(who.0) == 0);
        self.check();
        assert!(saved, "{} does not save", self.names[who.0]);
    }

    /// Reads a document.
    pub fn read<T>(&mut self, who: Who, place: Place, f: impl FnOnce(View<'_>) -> T) -> T {
        self.read_at(who, place, None, f)
    }

    /// Reads a document, as it was at some heads.
    pub fn read_at<T>(
        &mut self,
        who: Who,
        place: Place,
        heads: Option<&[ChangeHash]>,
        f: impl FnOnce(View<'_>) -> T,
    ) -> T {
        self.open(who, place);
        let engine = self.world.engine(who.0).expect("it runs");
        f(engine.view(&place.0, &place.1, heads).expect("it is open and knows the version"))
    }

    /// What leaving a space might lose, as a replica sees it.
    pub fn loss_on_leaving(&mut self, who: Who, space: SpaceId) -> LossOnLeaving {
        self.world.engine(who.0).expect("it runs").loss_on_leaving(&space).expect("the space is here")
    }

    /// The content of a document as JSON.
    pub fn json(&mut self, who: Who, place: Place) -> serde_json::Value {
        self.read(who, place, |view| view.json())
    }

    /// Nothing gets from one group to the other, either way, until [`Story::mend`]. Connections hang.
    pub fn cut(&mut self, some: &[Who], others: &[Who]) {
        for a in some {
            for b in others {
                for pair in [(a.0, b.0), (b.0, a.0)] {
                    *self.world.cut.entry(pair).or_default() += 1;
                }
            }
        }
    }

    /// Everything gets everywhere again.
    pub fn mend(&mut self) {
        self.world.mend_all();
    }

    /// The power of someone's machine goes, and comes back after a while.
    pub fn power_cut(&mut self, who: Who, down_s: u64) {
        self.world.crash(who.0, Crash::PowerCut, down_s * SECONDS);
        self.wait(down_s);
        self.go_on();
    }

    /// Someone's process is killed, and comes back after a while.
    pub fn kill(&mut self, who: Who, down_s: u64) {
        self.world.crash(who.0, Crash::Kill, down_s * SECONDS);
        self.wait(down_s);
        self.go_on();
    }

    /// A backup of someone's disk is made.
    pub fn back_up(&mut self, who: Who) {
        self.world.back_up(who.0, &mut Dice::salted(0));
    }

    /// Someone goes on from the last backup.
    pub fn restore(&mut self, who: Who, down_s: u64) {
        self.world.restore(who.0, down_s * SECONDS);
        self.wait(down_s);
        self.go_on();
    }

    /// Someone's machine is copied while it runs; both run from then on.
    pub fn copy(&mut self, who: Who, name: &'static str) -> Who {
        self.world.clone_machine(who.0, None, false, &mut Dice::salted(0));
        self.names.push(name);
        self.go_on();
        Who(self.world.replicas.len() - 1)
    }

    /// A copy is given a key of its own, and goes on. It holds no document open then.
    pub fn renew(&mut self, copy: Who) {
        self.world.renew(copy.0);
        self.wait(60);
    }

    /// Someone's process is ended, and two go on in its place that are alike in everything, memory included.
    pub fn copy_memory(&mut self, who: Who, name: &'static str) -> Who {
        let copy = self.world.clone_memory(who.0);
        self.world.expects_forks = true;
        self.names.push(name);
        self.check();
        Who(copy)
    }

    /// Someone's machine comes into another network.
    pub fn move_elsewhere(&mut self, who: Who) {
        self.world.move_elsewhere(who.0);
        self.check();
    }

    /// The addresses at which someone believes another one to be.
    pub fn known_addresses(&mut self, who: Who, other: Who) -> Vec<String> {
        let device = self.world.replicas[other.0].device;
        let engine = self.world.engine(who.0).expect("it runs");
        engine.peers().into_iter().find(|peer| peer.peer == device).map(|peer| peer.addresses).unwrap_or_default()
    }

    /// Someone's role in a space, by its own word.
    pub fn role(&mut self, who: Who, space: SpaceId) -> Option<Role> {
        let spaces = self.world.engine(who.0).expect("it runs").spaces();
        spaces.into_iter().find(|status| status.space == space)?.role
    }

    /// Someone leaves a space.
    pub fn leave(&mut self, who: Who, space: SpaceId) {
        self.world.counts_on_nothing_of(who.0, space);
        let answer = self.ask(who, Command::LeaveSpace { space });
        assert!(matches!(answer, Ok(Reply::Done)), "leaving: {answer:?}");
    }

    /// Virtual seconds pass.
    pub fn wait(&mut self, seconds: u64) {
        self.world.run_for(seconds * SECONDS);
        self.check();
    }

    /// Waits until all members of every space hold the same, and compares everything. Returns how many virtual milliseconds
    /// that took.
    pub fn agree(&mut self) -> u64 {
        let begin = self.world.now;
        let mut missing = String::new();
        let agreed = self.world.run_while_not(LOOK_EVERY / 25, CONVERGE_WITHIN, |world| {
            convergence::settled(world).map_err(|text| missing = text).is_ok()
        });
        self.check();
        assert!(agreed, "no agreement: {missing}");
        let took = self.world.now - begin;
        for replica in self.world.alive() {
            let spaces = self.world.ledger.spaces_of(replica).into_keys();
            let mut places: BTreeSet<Place> = BTreeSet::new();
            for space in spaces.collect::<Vec<_>>() {
                let engine = self.world.engine(replica).expect("it runs");
                places.extend(engine.documents(&space).into_iter().map(|document| (space, document)));
            }
            for place in places {
                self.open(Who(replica), place);
            }
        }
        let observed = convergence::observe(&mut self.world).expect("all is open");
        convergence::check(&mut self.world, &observed);
        acknowledged::everywhere(acknowledged::promised(&self.world), &observed).expect("nothing saved is lost");
        self.check();
        took / 1000
    }

    /// For two minutes nobody says anything but that it is there.
    pub fn is_silent(&mut self) {
        self.wait(FOUND_WITHIN / SECONDS);
        let before = silence::said(&self.world);
        self.world.run_for(SILENCE);
        self.check();
        let allowed = silence::allowed(&self.world, 0);
        silence::silent(&before, &silence::said(&self.world), allowed).expect("silence");
    }

    fn go_on(&mut self) {
        self.world.run_for(1);
        self.check();
    }

    /// Ends the test if something went wrong in the world.
    pub fn check(&self) {
        if let Some(failure) = &self.world.failure {
            let lines = self.world.trace.lines();
            let last = lines.len().saturating_sub(60);
            panic!("{failure}\n{}", lines[last..].join("\n"));
        }
    }
}

impl Default for Story {
    fn default() -> Self {
        Self::new()
    }
}
