//! Spaces: founding, inviting, joining, leaving.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::{CommandError, DeviceId, DocumentId, LossOnLeaving, Role, Space, Ticket, Toll, Usage};

use crate::service::status::space_line;
use crate::service::{Service, TimeLimit};
use crate::{Failure, Invitation, Joined, MemberLine, SpaceLine, UsageValues};

/// Documents that are named in an error.
const DOCUMENTS_NAMED_MAX: usize = 5;

impl Service {
    pub(super) async fn create_space(&self, name: &str, force: bool) -> Result<SpaceLine, Failure> {
        let _reservation = self.reserve_space(name, force).await?;
        let space = self.peer().create_space(name).await?;
        self.line(&space)
    }

    pub(super) async fn invite(
        &self,
        space: Option<&str>,
        role: &str,
        uses: u32,
        addresses: Vec<String>,
    ) -> Result<Invitation, Failure> {
        let role: Role = role.parse().map_err(|error| Failure::usage(format!("`{role}` is no role: {error}")))?;
        let space = self.space(space)?;
        let reachable = if addresses.is_empty() { self.peer().reachable_at() } else { Vec::new() };
        let ticket = space.invite(role, uses, addresses).await?;
        Ok(Invitation {
            left_out: reachable.into_iter().filter(|address| !ticket.addresses.contains(address)).collect(),
            space: space.id().to_string(),
            role: role.to_string(),
            uses,
            ticket: ticket.to_string(),
            addresses: ticket.addresses,
        })
    }

    pub(super) async fn join(&self, ticket: &str, timeout_ms: u64) -> Result<Joined, Failure> {
        let ticket: Ticket = ticket.parse().map_err(Failure::usage)?;
        let role = || self.peer().space(ticket.space).and_then(|space| space.role());
        let was = role();
        match TimeLimit::of_ms(timeout_ms).of(self.peer().join(&ticket)).await {
            Some(joined) => Ok(Joined {
                space: self.line(&joined?)?,
                was: was.map(|role| role.to_string()),
                ticket_role: ticket.role.to_string(),
            }),
            None if role().is_some() => Err(Failure::timed_out(format!(
                "no member that knows this invitation was met within {} s{}; the node goes on trying, and until then this device \
                 is {} in the space",
                timeout_ms as f64 / 1_000.0,
                self.why_no_member(&ticket),
                role().map_or("not a member", Role::with_article),
            ))),
            None => Err(Failure::timed_out(format!(
                "no member has admitted this device within {} s{}; the node goes on trying (see `anabranch space ls`; \
                 `anabranch space leave {:.8}` gives it up)",
                timeout_ms as f64 / 1_000.0,
                self.why_no_member(&ticket),
                ticket.space,
            ))),
        }
    }

    /// What came of dialing a ticket's addresses.
    fn why_no_member(&self, ticket: &Ticket) -> String {
        if ticket.addresses.is_empty() {
            return ": the ticket has no address, so a member must be dialed with `anabranch run --dial`".to_owned();
        }
        let peers = self.peer().peers();
        let tried = peers.iter().filter(|peer| peer.addresses.iter().any(|address| ticket.addresses.contains(address)));
        let unanswered = self.peer().unanswered();
        let silent = unanswered.iter().filter(|(address, _)| ticket.addresses.contains(address));
        let failures: Vec<_> = tried
            .filter_map(|peer| peer.last_failure.as_deref())
            .chain(silent.filter_map(|(_, failure)| failure.as_deref()))
            .collect();
        let addresses = ticket.addresses.join(", ");
        match &failures[..] {
            [] => format!(": dialing {addresses}"),
            failures => format!(": dialing {addresses}: {}", failures.join("; ")),
        }
    }

    pub(super) async fn leave(&self, space: &str, force: bool) -> Result<SpaceLine, Failure> {
        let space = self.space(Some(space))?;
        let line = self.line(&space)?;
        let loss = space.loss_on_leaving().filter(|loss| !force && !loss.is_none());
        if let Some(loss) = loss {
            return Err(loss_failure(&space, &loss).await);
        }
        self.peer().leave(space.id()).await?;
        Ok(line)
    }

    pub(super) async fn void_entry(&self, space: Option<&str>, entry: &str) -> Result<SpaceLine, Failure> {
        let space = self.space(space)?;
        let entry = entry.parse().map_err(|error| Failure::usage(format!("`{entry}` is no entry: {error}")))?;
        self.peer().void_entry(space.id(), entry).await?;
        self.line(&space)
    }

    pub(super) async fn members(&self, space: Option<&str>, usage: bool) -> Result<Vec<MemberLine>, Failure> {
        let us = self.peer().device();
        let space = self.space(space)?;
        let usage: BTreeMap<DeviceId, Usage> =
            if usage { space.usage().await?.into_iter().collect() } else { BTreeMap::new() };
        let blocked: BTreeSet<DeviceId> =
            self.peer().peers().into_iter().filter(|peer| peer.blocked).map(|peer| peer.peer).collect();
        Ok(space
            .members()
            .into_iter()
            .map(|member| MemberLine {
                blocked: blocked.contains(&member.device),
                usage: usage.get(&member.device).map(usage_values),
                device: member.device.to_string(),
                name: self.peer().device_name(&member.device),
                role: member.role.to_string(),
                admitted_by: (member.admitted_by != member.device).then(|| member.admitted_by.to_string()),
                this_device: member.device == us,
            })
            .collect())
    }

    fn line(&self, space: &Space) -> Result<SpaceLine, Failure> {
        let status = space.status().ok_or(CommandError::UnknownSpace(space.id()))?;
        Ok(space_line(status))
    }
}

fn usage_values(usage: &Usage) -> UsageValues {
    let Usage { runs, run_bytes, entries, entry_bytes, toll: Toll { bytes, checks, refused } } = *usage;
    UsageValues { runs, run_bytes, entries, entry_bytes, received_bytes: bytes, checks, refused }
}

/// A space's name and the first digits of its id: two may have one name.
pub(super) fn title(space: &Space) -> String {
    match space.name() {
        Some(name) => format!("`{name}` ({:.8})", space.id()),
        None => format!("{:.8}", space.id()),
    }
}

/// A document's name, if it can be read, and the first digits of its id.
async fn document_title(space: &Space, id: DocumentId) -> String {
    let name = match space.open(id).await {
        Ok(document) => document.get("/name").ok().flatten(),
        Err(_) => None,
    };
    match name.as_ref().and_then(|name| name.as_str()) {
        Some(name) => format!("`{name:.64}` ({id:.8})"),
        None => format!("{id:.8}"),
    }
}

/// Why leaving asks for `--force`.
async fn loss_failure(space: &Space, loss: &LossOnLeaving) -> Failure {
    let mut reasons = Vec::new();
    if !loss.only_here.is_empty() {
        let mut titles = Vec::new();
        for id in loss.only_here.iter().take(DOCUMENTS_NAMED_MAX) {
            titles.push(document_title(space, *id).await);
        }
        if loss.only_here.len() > DOCUMENTS_NAMED_MAX {
            titles.push("..".to_owned());
        }
        let what = if loss.was_in_sync {
            "no other member was found to hold the last changes of"
        } else {
            "since this node was started no other member was found to hold"
        };
        let (count, titles) = (loss.only_here.len(), titles.join(", "));
        let documents = if count == 1 { "document" } else { "documents" };
        reasons.push(format!("{what} {count} {documents}: {titles}"));
    }
    if loss.only_admin {
        reasons.push("this device is the only admin, without it nobody can invite".to_owned());
    }
    let hint = if loss.only_here.is_empty() {
        format!("make another member an admin first (`anabranch space invite {:.8} --role admin`)", space.id())
    } else {
        format!("wait until a member holds them (`anabranch wait-synced --space {:.8}`)", space.id())
    };
    Failure::refused(format!(
        "leaving space {} might lose something for good: {}; {hint}, or leave with --force",
        title(space),
        reasons.join("; "),
    ))
}
