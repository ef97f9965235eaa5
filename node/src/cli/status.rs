//! `anabranch status`, `peers`: the node at a glance.

use crate::cli::space;
use crate::client::Client;
use crate::directory::Directory;
use crate::show::{Show, count, device, short, time};
use anabranch_api::{Command, Copied, Failure, PeerLine, Status};

/// `anabranch status`
pub(crate) fn status(directory: &Directory, show: Show) -> Result<(), Failure> {
    let status = Client::connect(directory)?.ask::<Status>(&Command::Status)?;
    show.one(&status, human)
}

/// `anabranch peers`
pub(crate) fn peers(directory: &Directory, show: Show) -> Result<(), Failure> {
    let mut none = true;
    Client::connect(directory)?.ask_many(&Command::Peers, |line: PeerLine| {
        none = false;
        show.one(&line, peer_row)
    })?;
    if none {
        show.remark(
            "no peers are known: invite one with `anabranch space invite`, or join one's space with its ticket",
        )?;
    }
    Ok(())
}

fn human(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("device     {}{}", status.identity.device, named(status.identity.name.as_deref()))];
    lines.extend(status.host.as_ref().map(|host| format!("directory  {}", host.directory)));
    lines.push(format!(
        "storage    {}, epoch {}, feed seq {}",
        short(&status.identity.storage),
        status.identity.epoch,
        status.feed_seq
    ));
    let process = status.host.as_ref().map_or(String::new(), |host| format!("{}, ", host.pid));
    lines.push(format!("process    {process}version {}", status.version));
    if let Some(why) = &status.stopped {
        lines.push(format!("NO EDITS   {why}"));
    }
    if let Some(copied) = &status.copied {
        lines.push(format!(
            "COPIED     {}: its directory was copied; `anabranch id renew` on one of them gives that a key of its own",
            when("another process acts as this device", copied)
        ));
    }
    match &status.listening[..] {
        [] => lines.push("listening  no (start with `anabranch run --listen MULTIADDR`)".to_owned()),
        addresses => lines.extend(addresses.iter().map(|address| format!("listening  {address}"))),
    }
    lines.extend(status.spaces.iter().map(|line| format!("space      {}", space::row(line))));
    lines.extend(status.peers.iter().map(|line| format!("peer       {}", peer_row(line))));
    let counters = &status.counters;
    lines.push(format!(
        "traffic    {} and {} out, {} and {} in",
        count(counters.frames_out as usize, "frame"),
        count(counters.bytes_out as usize, "byte"),
        count(counters.frames_in as usize, "frame"),
        count(counters.bytes_in as usize, "byte"),
    ));
    lines.push(format!(
        "runs       {} accepted, {} refused, {} known, {} waited",
        counters.runs_accepted, counters.runs_refused, counters.runs_known, counters.runs_waited,
    ));
    lines
}

/// A name beside a whole id.
pub(super) fn named(name: Option<&str>) -> String {
    name.map(|name| format!(" ({name})")).unwrap_or_default()
}

fn when(what: &str, copied: &Copied) -> String {
    if copied.now { format!("{what} now") } else { format!("{what}, last seen {}", time(copied.last_s)) }
}

/// A peer in one row.
pub(super) fn peer_row(line: &PeerLine) -> String {
    let state = match (line.connected, line.in_sync) {
        _ if line.blocked => "BLOCKED",
        (true, true) => "in sync",
        (true, false) => "connected",
        (false, _) if line.device.is_none() => "unknown",
        (false, _) => "away",
    };
    let spaces = count(line.spaces.len(), "space");
    let failure = line.last_failure.as_ref().filter(|_| !line.connected);
    let why = failure.map(|why| format!("  last try: {why}")).unwrap_or_default();
    let copied =
        line.copied.as_ref().map(|copied| format!("  COPIED: {}", when("several processes act as it", copied)));
    let who = line.device.as_deref().map_or("--------".to_owned(), |id| device(id, line.name.as_deref()));
    format!("{who}  {state:9}  {spaces:9}  {}{why}{}", line.addresses.join(" "), copied.unwrap_or_default())
}
